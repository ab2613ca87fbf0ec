/** What tools/scarce.c, which nginx has preloaded, is to let fail: a file that it maps. */
import { closeSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import { makeFolder } from "../support/project.js";

/** Counters of scarce.c, in the order of its struct. */
export const COUNTERS = ["memfd", "map", "thread"] as const;

/** The file that scarce.c maps. */
export class Scarce {
  readonly path: string;
  readonly #folder: string;
  readonly #file: number;

  constructor() {
    this.#folder = makeFolder("scarce");
    this.path = join(this.#folder, "counters");
    this.#file = openSync(this.path, "w+");
    this.#write(0, 0);
    this.#write(COUNTERS.length - 1, 0);
  }

  #write(index: number, value: number): void {
    const bytes = Buffer.alloc(4);
    bytes.writeInt32LE(value);
    writeSync(this.#file, bytes, 0, 4, index * 4);
  }

  /** The next `times` calls fail. */
  fail(what: (typeof COUNTERS)[number], times: number): void {
    this.#write(COUNTERS.indexOf(what), times);
  }

  left(what: (typeof COUNTERS)[number]): number {
    const bytes = Buffer.alloc(4);
    readSync(this.#file, bytes, 0, 4, COUNTERS.indexOf(what) * 4);
    return bytes.readInt32LE();
  }

  remove(): void {
    closeSync(this.#file);
    rmSync(this.#folder, { recursive: true });
  }
}
