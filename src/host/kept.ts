/**
 * What compile.ts has made, and which schemas are right, kept by Lua for the environment that comes
 * after this one: to compile and to check takes longer than all else of a start.
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

/** @param name by which it is replaced. @param text what is to be among `kept` of the next environment. */
export type Keep = (name: string, text: string) => void;

const SCHEMA = "schema ";

export class KeptCompiled {
  /** Names of schemas that are right. */
  readonly schemas: string[] = [];
  readonly #entries = new Map<string, Entry>();
  /** Until `open`. */
  #waiting: [name: string, text: string][] = [];
  #keep: Keep = (name, text) => void this.#waiting.push([name, text]);

  /** @param kept what `keep` got in the environments before. */
  constructor(kept: readonly string[]) {
    for (const text of kept) {
      if (text.startsWith(SCHEMA)) {
        this.schemas.push(text.slice(SCHEMA.length));
        continue;
      }
      const entry = JSON.parse(text) as Entry;
      this.#entries.set(entry.file, entry);
    }
  }

  /** From now on there is somebody who keeps it. */
  open(keep: Keep): void {
    this.#keep = keep;
    for (const [name, text] of this.#waiting) keep(name, text);
    this.#waiting = [];
  }

  putSchema(name: string): void {
    this.#keep(SCHEMA + name, SCHEMA + name);
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
