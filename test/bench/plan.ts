// How long each run takes. A quick benchmark shares out a fixed time; a full one has fixed lengths.
import { type LoadCase, PLUGIN_CASES, targetsOf } from "./cases.ts";
import type { Options } from "./options.ts";

export interface Plan {
  readonly warmUpSeconds: number;
  readonly loadSeconds: number;
  readonly cpuSeconds: number;
}

// A quick benchmark must end within 50 s: on a busy machine too, and with the build before it.
const QUICK_BUDGET_SECONDS = 38;
const QUICK_WARM_UP_SECONDS = 0.3;
const QUICK_LEAST_SECONDS = 0.12;
const QUICK_CPU_SECONDS = 2;
// Starting and ending wrk, around each run.
const RUN_OVERHEAD_SECONDS = 0.08;

export function loadCasesOf(options: Options): LoadCase[] {
  return options.cases.filter((name) => name !== "cpu");
}

/** A quick run has time for the plugin cases at the highest number of connections only. */
export function connectionsOf(name: LoadCase, { quick, connections }: Options): readonly number[] {
  if (!quick || !PLUGIN_CASES.has(name)) return connections;
  return [Math.max(...connections)];
}

export function planOf(options: Options): Plan {
  if (!options.quick) {
    const seconds = options.seconds ?? 1;
    return { warmUpSeconds: 1, loadSeconds: seconds, cpuSeconds: Math.max(seconds, 3) };
  }
  const cases = loadCasesOf(options);
  const sum = (of: (name: LoadCase) => number): number =>
    cases.reduce((total, name) => total + of(name), 0);
  const pairs = sum((name) => targetsOf(name, options.targets).length);
  const groups = sum(
    (name) => connectionsOf(name, options).length * targetsOf(name, options.targets).length,
  );
  const loadRuns = groups * options.repeats;
  const cpuRuns = options.cases.includes("cpu") ? options.targets.length : 0;
  const share =
    (QUICK_BUDGET_SECONDS -
      pairs * (QUICK_WARM_UP_SECONDS + RUN_OVERHEAD_SECONDS) -
      cpuRuns * (QUICK_CPU_SECONDS + RUN_OVERHEAD_SECONDS)) /
    Math.max(loadRuns, 1);
  return {
    warmUpSeconds: QUICK_WARM_UP_SECONDS,
    loadSeconds:
      options.seconds ?? Math.min(Math.max(share - RUN_OVERHEAD_SECONDS, QUICK_LEAST_SECONDS), 2),
    cpuSeconds: QUICK_CPU_SECONDS,
  };
}

/** The cpu case runs once in a quick benchmark: its runs cannot be made shorter. */
export function cpuRepeatsOf(options: Options): number {
  return options.quick ? 1 : options.repeats;
}
