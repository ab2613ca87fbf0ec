// What the plots share: interleaved runs of each line at each value, and the medians of these.
import { childrenOf } from "../../support/proc.js";
import { cpuPerRequest, readCpuTimes } from "../cpu-meter.ts";
import { check, type Headers } from "../exchange.ts";
import type { Site, SiteOptions } from "../nginx.ts";
import { median } from "../support.ts";
import { runWrk, type WrkFigures } from "../wrk.ts";
import type { Figure, Line } from "./figure.ts";

export interface Setting {
  /** For files of the plots' own. */
  readonly dir: string;
  readonly repeats: number;
  /** Of one run. */
  readonly seconds: number;
  readonly progress: (text: string) => void;
  /** An nginx that is stopped after the plot. */
  start(options: SiteOptions): Promise<Site>;
}

/** What wrk asks for, and how. */
export interface Subject {
  readonly site: Site;
  readonly path: string;
  readonly headers?: Headers;
  /** What the answer's body must be. */
  readonly body: string;
  readonly connections?: number;
  readonly pauseMs?: number;
  /** In place of the setting's. */
  readonly seconds?: number;
}

export interface Sample extends WrkFigures {
  /** For each request: all threads of the workers, and of their hosts where these are processes. */
  readonly cpuUs: number;
}

type LineOf<T> = Readonly<Record<string, (value: number) => T>>;

export const CONNECTIONS = 16;
export const CPU: Figure["y"] = { title: "CPU of all threads, µs a request" };
export const RATE: Figure["y"] = { title: "requests/s" };

const WARM_UP_SECONDS = 0.5;

function readCpu({ workerPids }: Site): ReturnType<typeof readCpuTimes> {
  return readCpuTimes([...workerPids, ...workerPids.flatMap(childrenOf)]);
}

export async function sample(subject: Subject, seconds: number): Promise<Sample> {
  const { site, path, body: _, ...load } = subject;
  const before = readCpu(site);
  const figures = await runWrk({
    ...{ url: site.url + path, connections: CONNECTIONS, seconds },
    ...load,
  });
  const cpu = cpuPerRequest(before, readCpu(site), figures.requests);
  return { ...figures, cpuUs: cpu.mainUs + cpu.nodeUs + cpu.othersUs };
}

/** Asks once, compares the answer, and warms up. */
export async function prepare(subject: Subject): Promise<void> {
  const { site, path, headers = {}, body } = subject;
  const expected = { status: 200, body, headers: {} };
  await check(site, path, { what: "the request", headers, expected });
  await sample(subject, WARM_UP_SECONDS);
}

/** Each line's run at each value, in turns. */
export async function interleave(
  { repeats, progress }: Setting,
  values: readonly number[],
  runs: LineOf<Promise<number>>,
): Promise<Line[]> {
  const lines = Object.entries(runs).map(([name, run]) => {
    return { name, run, found: values.map((value) => ({ value, figures: [] as number[] })) };
  });
  for (let repeat = 1; repeat <= repeats; repeat += 1) {
    progress(`repeat ${repeat} of ${repeats}`);
    for (const at of values.keys()) {
      for (const { run, found } of lines) {
        const one = found[at];
        one?.figures.push(await run(one.value));
      }
    }
  }
  return lines.map(({ name, found }) => ({
    name,
    points: found.map(({ value, figures }) => [value, median(figures)] as const),
  }));
}

/** The same of subjects that wrk asks, after each was checked and warmed up. */
export async function sweep(
  setting: Setting,
  values: readonly number[],
  subjects: LineOf<Subject>,
  figure: (sample: Sample) => number,
): Promise<Line[]> {
  setting.progress("warming up");
  for (const subject of Object.values(subjects)) {
    for (const value of values) await prepare(subject(value));
  }
  const runs = Object.entries(subjects).map(([name, subject]) => [
    name,
    async (value: number) => figure(await sample(subject(value), setting.seconds)),
  ]);
  return interleave(setting, values, Object.fromEntries(runs) as LineOf<Promise<number>>);
}

export const cpuOf = ({ cpuUs }: Sample): number => cpuUs;
export const rateOf = ({ rps }: Sample): number => rps;
