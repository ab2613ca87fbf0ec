// The command line of the benchmark.
import { parseArgs } from "node:util";

import { type Plot, PLOTS } from "./plots/names.ts";
import { CASES, type Case, isProcess, TARGETS, type Target } from "./cases.ts";

export const USAGE = `usage: npm run bench -- [options]
  --quick                 a short run, done within 50 s
  --json FILE             also write the figures to FILE
  --cases LIST            of ${CASES.join(",")}
                          (default: all, quick: not those of APISIX and of bodies)
  --targets LIST          of ${TARGETS.join(",")}
                          (default: all, quick: not the processes, nor yield; lua is always measured)
  --connections LIST      default 1,16,64
  --pipeline N            requests that a connection sends at once (default 1): makes wrk cheaper
  --workers N             nginx's workers (default 1)
  --busy N                processes that compute beside it for the whole run (default 0)
  --repeats N             runs of each kind, interleaved; medians are reported (default 15, quick 3)
  --seconds N             length of a run, fractions allowed (default 1, quick: what fits)
  --plots                 how costs grow, as tables and as docs/plots/*.svg, instead; --cases is then
                          of ${PLOTS.join(",")} (default: all),
                          and of the other options --repeats (default 5), --seconds and --json count
  --strace                count the worker's syscalls a request instead (needs root)
  --probe                 only print what this machine has
  --help`;

export interface Options {
  readonly quick: boolean;
  readonly jsonFile: string | undefined;
  readonly cases: readonly Case[];
  readonly targets: readonly Target[];
  readonly connections: readonly number[];
  readonly pipeline: number;
  readonly workers: number;
  readonly busy: number;
  readonly repeats: number;
  /** Undefined: chosen by the plan. */
  readonly seconds: number | undefined;
  readonly mode: "measure" | "plots" | "strace" | "probe" | "help";
  /** With the mode `plots`. */
  readonly plots: readonly Plot[];
}

/** A mistake of the user's, to be shown without a stack. */
export class UsageError extends Error {}

function listOf<T extends string>(name: string, given: string | undefined, all: readonly T[]): T[] {
  if (given === undefined) return [...all];
  const words = given.split(",");
  const unknown = words.find((word) => !all.some((known) => known === word));
  if (unknown !== undefined) {
    throw new UsageError(`--${name}: "${unknown}" is not one of ${all.join(", ")}`);
  }
  return all.filter((known) => words.includes(known));
}

function positive(name: string, given: string): number {
  const value = Number(given);
  if (!(value > 0 && value <= 10_000)) {
    throw new UsageError(`--${name}: "${given}" is not a number above 0`);
  }
  return value;
}

function positiveInteger(name: string, given: string): number {
  const value = positive(name, given);
  if (!Number.isInteger(value)) throw new UsageError(`--${name}: "${given}" is not a whole number`);
  return value;
}

function natural(name: string, given: string): number {
  if (/^\d{1,3}$/.test(given)) return Number(given);
  throw new UsageError(`--${name}: "${given}" is not a whole number from 0 to 999`);
}

function targetsOf(given: string | undefined, quick: boolean): Target[] {
  const all = listOf("targets", given, TARGETS);
  const isLong = (name: Target): boolean => isProcess(name) || name === "yield";
  const targets = quick && given === undefined ? all.filter((name) => !isLong(name)) : all;
  // Every figure is read against pure Lua's of the same run.
  return targets.includes("lua") ? targets : ["lua", ...targets];
}

// What has one worker.
const SINGLE: readonly Case[] = ["apisix", "apisix-filter", "cpu"];
const NOT_QUICK: readonly Case[] = [
  ...(["access", "declared", "kept", "body", "body-100k"] as const),
  ...(["apisix", "apisix-filter"] as const),
];

function casesOf(given: string | undefined, quick: boolean, workers: number): Case[] {
  const cases = listOf("cases", given, CASES);
  const single = workers > 1 ? SINGLE : [];
  const impossible = cases.find((name) => single.includes(name));
  if (given !== undefined && impossible !== undefined) {
    throw new UsageError(`--cases: ${impossible} is measured with one worker only`);
  }
  if (given !== undefined) return cases;
  return cases.filter((name) => !single.includes(name) && !(quick && NOT_QUICK.includes(name)));
}

function parse(argv: readonly string[]): ReturnType<typeof parseValues> {
  try {
    return parseValues(argv);
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function parseValues(argv: readonly string[]) {
  return parseArgs({
    args: [...argv],
    options: {
      quick: { type: "boolean", default: false },
      json: { type: "string" },
      cases: { type: "string" },
      targets: { type: "string" },
      connections: { type: "string", default: "1,16,64" },
      pipeline: { type: "string", default: "1" },
      workers: { type: "string", default: "1" },
      busy: { type: "string", default: "0" },
      repeats: { type: "string" },
      seconds: { type: "string" },
      plots: { type: "boolean", default: false },
      strace: { type: "boolean", default: false },
      probe: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  }).values;
}

function modeOf(values: ReturnType<typeof parseValues>): Options["mode"] {
  const modes = ["help", "probe", "strace", "plots"] as const;
  return modes.find((mode) => values[mode]) ?? "measure";
}

function repeatsOf(mode: Options["mode"], quick: boolean): string {
  if (mode === "plots") return "5";
  return quick ? "3" : "15";
}

export function parseOptions(argv: readonly string[]): Options {
  const values = parse(argv);
  const mode = modeOf(values);
  const workers = positiveInteger("workers", values.workers);
  if (mode === "strace" && workers > 1) {
    throw new UsageError("--strace: syscalls are counted with one worker only");
  }
  const isPlots = mode === "plots";
  return {
    mode,
    quick: values.quick,
    jsonFile: values.json,
    cases: isPlots ? [] : casesOf(values.cases, values.quick, workers),
    plots: isPlots ? listOf("cases", values.cases, PLOTS) : [],
    targets: targetsOf(values.targets, values.quick),
    connections: values.connections.split(",").map((text) => positiveInteger("connections", text)),
    pipeline: positiveInteger("pipeline", values.pipeline),
    workers,
    busy: natural("busy", values.busy),
    repeats: positiveInteger("repeats", values.repeats ?? repeatsOf(mode, values.quick)),
    seconds: values.seconds === undefined ? undefined : positive("seconds", values.seconds),
  };
}
