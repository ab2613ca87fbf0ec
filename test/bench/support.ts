// Small things that several files of the benchmark need.
import { type ChildProcess, spawnSync } from "node:child_process";
import { once } from "node:events";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const BENCH_DIR = dirname(fileURLToPath(import.meta.url));
export const PROJECT_DIR = join(BENCH_DIR, "..", "..");

/** True once the child has ended, false if it still runs after `timeoutMs`. */
export async function whenExited(child: ChildProcess, timeoutMs: number): Promise<boolean> {
  if (child.exitCode !== null || child.signalCode !== null) return true;
  try {
    await once(child, "exit", { signal: AbortSignal.timeout(timeoutMs) });
    return true;
  } catch (error) {
    if (error instanceof Error && error.name === "AbortError") return false;
    throw error;
  }
}

/** Whether the command can be run and succeeds. */
export function hasCommand(command: string, args: readonly string[]): boolean {
  return spawnSync(command, args, { stdio: "ignore" }).status === 0;
}

/** The middle value; of an even number the mean of the two middle ones. NaN for no values. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const upper = sorted[Math.floor(middle)] ?? NaN;
  const lower = sorted[Math.ceil(middle) - 1] ?? NaN;
  return (upper + lower) / 2;
}

/** Of runs that have nothing but figures: the median of each figure. There is one run at least. */
export function mediansOf<T extends Readonly<Record<keyof T, number>>>(runs: readonly T[]): T {
  const names = Object.keys(runs[0] ?? {}) as (keyof T)[];
  const of = (name: keyof T): number => median(runs.map((run) => run[name]));
  return Object.fromEntries(names.map((name) => [name, of(name)])) as T;
}

/** Of the quotients within a repeat, a few seconds apart: virtual machines change their speed. */
export function medianQuotient(values: readonly number[], bases: readonly number[]): number {
  return median(values.map((value, repeat) => value / (bases[repeat] ?? NaN)));
}
