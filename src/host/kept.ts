/**
 * What compile.ts has made, kept by Lua for the environment that comes after this one: to compile
 * takes longer than all else of a start.
 *
 * Thread: the environment's own. Invariant: what was kept is used only while each file that it was
 * made of, and each package's file that it imports, is what it was then.
 */
import { fileURLToPath } from "node:url";
import type { Compiled } from "./compile.js";
import { areFresh, type Stamps, stampsOf } from "./stamps.js";

/** In JSON: Lua only keeps it. */
interface Entry {
  readonly file: string;
  readonly node: string;
  readonly stamps: readonly (readonly [file: string, stamp: string])[];
  readonly compiled: Compiled;
}

/** @param file is its name. @param text what is to be among `kept` of the next environment. */
export type Keep = (file: string, text: string) => void;

export class KeptCompiled {
  readonly #entries = new Map<string, Entry>();
  /** Until `open`. */
  #waiting: [file: string, text: string][] = [];
  #keep: Keep = (file, text) => void this.#waiting.push([file, text]);

  /** @param kept what `keep` got in the environments before. */
  constructor(kept: readonly string[]) {
    for (const text of kept) {
      const entry = JSON.parse(text) as Entry;
      this.#entries.set(entry.file, entry);
    }
  }

  /** From now on there is somebody who keeps it. */
  open(keep: Keep): void {
    this.#keep = keep;
    for (const [file, text] of this.#waiting) keep(file, text);
    this.#waiting = [];
  }

  /** @returns undefined when it is to be compiled. */
  get(file: string): { compiled: Compiled; stamps: Stamps } | undefined {
    const entry = this.#entries.get(file);
    this.#entries.delete(file); // once only: the next time something has changed
    if (entry === undefined || entry.node !== process.versions.node) return undefined;
    const stamps = new Map(entry.stamps);
    return areFresh(stamps) ? { compiled: entry.compiled, stamps } : undefined;
  }

  /** @param since when the compiler began to read; ms since the epoch. */
  put(file: string, compiled: Compiled, since: number): void {
    const packages = compiled.imports
      .filter((url) => url.startsWith("file:"))
      .map((url) => fileURLToPath(url));
    const stamps = stampsOf([...compiled.inputs, ...packages], since);
    if (!areFresh(stamps)) return;
    const entry: Entry = { file, node: process.versions.node, stamps: [...stamps], compiled };
    this.#keep(file, JSON.stringify(entry));
  }
}
