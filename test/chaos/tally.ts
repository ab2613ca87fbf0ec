/** What a run counts, and what it says: one line a failure, with what was done before it. */
import { writeSync } from "node:fs";

const start = performance.now();

/** Milliseconds since the run began. */
export function now(): number {
  return performance.now() - start;
}

export function say(text: string): void {
  writeSync(1, `${text}\n`);
}

export class Tally {
  calls = 0;
  faults = 0;
  failures = 0;
  /** Calls that failed as they had to: see windows.ts. */
  excused = 0;
  /** Filters that were not answered in time. */
  passed = 0;
  readonly byFault = new Map<string, number>();

  fail(site: string, what: string, after: string): void {
    this.failures++;
    const seconds = (now() / 1000).toFixed(2);
    if (this.failures <= 200) say(`FAILURE ${seconds} s, ${site}, after ${after}: ${what}`);
  }

  fault(name: string): void {
    this.faults++;
    this.byFault.set(name, (this.byFault.get(name) ?? 0) + 1);
  }
}
