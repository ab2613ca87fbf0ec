/** Whether files have changed since something was made of them. Thread: the environment's own. */
import { statSync } from "node:fs";

/** File -> what it was like; "" of one that may have been read before its last change. */
export type Stamps = ReadonlyMap<string, string>;

/** A file's time is that of a clock that ticks. */
const TICK_MS = 10;

function stampOf(file: string, since: number): string {
  try {
    const { mtimeMs, size, ino } = statSync(file);
    return mtimeMs > since - TICK_MS ? "" : `${mtimeMs} ${size} ${ino}`;
  } catch {
    return ""; // it is gone: whoever reads it is told
  }
}

/** @param since when the first of them was read, or before; ms since the epoch. */
export function stampsOf(files: readonly string[], since: number): Stamps {
  return new Map(files.map((file) => [file, stampOf(file, since)]));
}

/** Whether all files are what they were. */
export function areFresh(stamps: Stamps): boolean {
  for (const [file, stamp] of stamps) {
    if (stamp === "" || stampOf(file, Infinity) !== stamp) return false;
  }
  return true;
}
