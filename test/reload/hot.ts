/** Hot reloads under constant load: each is taken or refused as it must be, and nothing piles up. */
import assert from "node:assert/strict";
import { until } from "../support/deadline.js";
import { type Nginx, withNginx } from "../support/nginx.js";
import { describeFigures, type Figures, figuresOf } from "./figures.js";
import { gatewayOptions, kindsOf, type Runtime } from "./gateway.js";
import { Sources, type Subject } from "./sources.js";
import { Traffic } from "./traffic.js";

interface Report {
  reloaded: string[] | Record<string, never>;
  refused: Record<string, string>;
}

export interface HotOptions {
  readonly runtime: Runtime;
  readonly reloads: number;
  readonly connections: number;
  readonly say: (line: string) => void;
}

export interface HotResult {
  readonly calls: number;
  readonly failed: number;
  readonly failures: readonly string[];
  readonly taken: number;
  readonly refused: number;
  readonly first: Figures;
  readonly last: Figures;
}

const NAMES: Record<Subject, string> = { module: "soak.ts", plugin: "soak" };
const FIGURES = 10;
/** Steps before the figures that others are compared with. */
const WARM_UP = 16;

type Step = (sources: Sources, step: number) => { taken: Subject[]; refused: Subject[] };

const changes =
  (part: "own" | "lib", ...subjects: Subject[]): Step =>
  (sources, step) => {
    for (const subject of subjects) sources.change(subject, part, step);
    return { taken: subjects, refused: [] };
  };

const STEPS: readonly Step[] = [
  changes("own", "module"),
  changes("own", "plugin"),
  changes("lib", "module"),
  changes("lib", "plugin"),
  changes("own", "module", "plugin"),
  (sources, step) => {
    sources.break("module", step);
    return { taken: [], refused: ["module"] };
  },
  (sources, step) => {
    sources.break("plugin", step);
    return { taken: [], refused: ["module", "plugin"] };
  },
  changes("lib", "module", "plugin"),
];

const listOf = (reloaded: Report["reloaded"]): string[] =>
  Array.isArray(reloaded) ? [...reloaded].sort() : [];

/** When what came before has been given back and collected. */
async function settledFigures(nginx: Nginx): Promise<Figures> {
  let last: Figures | undefined;
  return until(
    "versions out of use are gone",
    async () => {
      last = await figuresOf(nginx);
      return last.modulesAlive <= 1 && last.pluginsAlive <= 1 ? last : undefined;
    },
    30_000,
    () => describeFigures(last!),
  );
}

export function hotReloads(options: HotOptions): Promise<HotResult> {
  return withNginx(gatewayOptions(options.runtime, 1), async (nginx) => {
    const sources = new Sources(nginx.prefix);
    const committed = { module: 1, plugin: 1 };
    const kinds = kindsOf(sources, committed, false);
    // Each configuration is there before the first reload.
    for (const kind of kinds) {
      const wrong = kind.check(await nginx.ask(kind.path(1)), 1, 1);
      assert.equal(wrong, undefined);
    }
    const { connections } = options;
    const load = { origin: nginx.url, kinds, connections, keepAlive: true };
    let traffic = new Traffic(load);
    const sum = { calls: 0, failed: 0, failures: [] as string[], taken: 0, refused: 0 };
    const pause = async (): Promise<Figures> => {
      await traffic.stop();
      sum.calls += traffic.answered;
      sum.failed += traffic.failed + traffic.closed;
      sum.failures.push(...traffic.failures);
      return settledFigures(nginx);
    };

    let first: Figures | undefined;
    const every = Math.max(1, Math.floor(options.reloads / FIGURES));
    for (let i = 1; i <= options.reloads; i++) {
      const { taken, refused } = STEPS[i % STEPS.length]!(sources, i + 1);
      const report = await nginx.json<Report>("/_reload");
      const told = [listOf(report.reloaded), Object.keys(report.refused).sort()];
      const expected = [taken, refused].map((subjects) => subjects.map((one) => NAMES[one]).sort());
      assert.deepEqual(told, expected, `reload ${String(i)}: ${JSON.stringify(report)}`);
      for (const subject of taken) committed[subject] = sources.last(subject);
      sum.taken += taken.length > 0 ? 1 : 0;
      sum.refused += refused.length > 0 ? 1 : 0;
      if (i === WARM_UP || i % every === 0) {
        const figures = await pause();
        if (i >= WARM_UP) first ??= figures;
        options.say(`${options.runtime}, ${String(i)} reloads: ${describeFigures(figures)}`);
        traffic = new Traffic(load);
      }
    }
    const last = await pause();
    return { ...sum, first: first ?? last, last };
  });
}
