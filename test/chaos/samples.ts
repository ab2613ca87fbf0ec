/**
 * What workers and hosts hold, through the run: descriptors, threads, memory. At the end none may
 * have grown.
 */
import { descriptorsOf, rssOf, threadsOf } from "../support/proc.js";
import { now, say } from "./tally.js";

const MIB = 1 << 20;

interface Measure {
  name: string;
  of: (pid: number) => number;
  /** How much more the last third may have than the one before it. */
  slack: (before: number) => number;
}

const MEASURES: Measure[] = [
  { name: "descriptors", of: (pid) => descriptorsOf(pid).size, slack: () => 4 },
  { name: "threads", of: (pid) => threadsOf(pid).length, slack: () => 2 },
  // An environment's heap is as large as its last collections left it, so neighbouring medians differ.
  { name: "RSS MiB", of: (pid) => rssOf(pid) / MIB, slack: (before) => 16 + before * 0.1 },
];

/** With fewer samples a third says nothing. */
const LEAST_SAMPLES = 30;
const SHOWN = 12;

export function median(list: number[]): number {
  const sorted = [...list].sort((a, b) => a - b);
  return sorted[sorted.length >> 1] ?? NaN;
}

/** One row: the time, and each measure's mean over the processes that there were. */
type Row = [at: number, ...values: number[]];

export class Samples {
  readonly #title: string;
  readonly #rows: Row[] = [];

  constructor(title: string) {
    this.#title = title;
  }

  take(pids: number[]): void {
    const values = MEASURES.map(({ of }) => {
      const each: number[] = [];
      for (const pid of pids) {
        try {
          each.push(of(pid));
        } catch {
          // it has just ended
        }
      }
      return each.length > 0 ? each.reduce((sum, one) => sum + one, 0) / each.length : NaN;
    });
    if (values.every(Number.isFinite)) this.#rows.push([now(), ...values]);
  }

  /** Prints the series. @returns what has grown, in words. */
  report(): string[] {
    const rows = this.#rows;
    if (rows.length === 0) return [];
    const step = Math.max(1, Math.ceil(rows.length / SHOWN));
    const picked = rows.filter((_, i) => i % step === 0);
    say(`\n${this.#title}`);
    say(`${"s".padStart(8)}${MEASURES.map(({ name }) => name.padStart(13)).join("")}`);
    for (const [at, ...values] of picked) {
      const cells = values.map((value) => value.toFixed(1).padStart(13)).join("");
      say(`${(at / 1000).toFixed(0).padStart(8)}${cells}`);
    }
    if (rows.length < LEAST_SAMPLES) return [];
    const third = Math.floor(rows.length / 3);
    return MEASURES.flatMap(({ name, slack }, i) => {
      const of = (part: Row[]): number => median(part.map((row) => row[i + 1]!));
      const before = of(rows.slice(third, 2 * third));
      const last = of(rows.slice(2 * third));
      if (last <= before + slack(before)) return [];
      return [`${this.#title}: ${name} grew from ${before.toFixed(1)} to ${last.toFixed(1)}`];
    });
  }
}
