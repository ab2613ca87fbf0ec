/** A channel in plain Node, and Lua's side of it: what the other thread would do, done by hand. */
import { createRequire } from "node:module";
import { join } from "node:path";
import type { NativeChannel } from "../../src/host/channel.ts";
import { PROJECT_ROOT } from "../support/project.ts";

interface Binding {
  readonly Channel: new (ringBytes: number) => NativeChannel;
}

const binding = createRequire(import.meta.url)(
  join(PROJECT_ROOT, "build/Release/resty_ts.node"),
) as Binding;

/** @throws {Error} when ringBytes is no size of a ring. */
export const newNative = (ringBytes: number): NativeChannel => new binding.Channel(ringBytes);

export interface Completion {
  kind: number;
  more: boolean;
  id: number;
  a: number;
  b: number;
  total: number;
  payload: Uint8Array;
}

export class LuaSide {
  readonly #layout: NativeChannel["layout"];
  readonly #words: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #mask: number;

  constructor(native: NativeChannel) {
    this.#layout = native.layout;
    this.#words = new Int32Array(native.memory);
    this.#bytes = new Uint8Array(native.memory);
    this.#view = new DataView(native.memory);
    this.#mask = native.layout.ringBytes - 1;
  }

  get sqHead(): number {
    return Atomics.load(this.#words, this.#layout.sqHead) >>> 0;
  }

  get sqTail(): number {
    return Atomics.load(this.#words, this.#layout.sqTail) >>> 0;
  }

  get cqTail(): number {
    return Atomics.load(this.#words, this.#layout.cqTail) >>> 0;
  }

  get cqHead(): number {
    return Atomics.load(this.#words, this.#layout.cqHead) >>> 0;
  }

  /** Moves all four cursors, as a channel that has been in use for long has them. Before Channel is made. */
  startAt(cursor: number): void {
    const { sqTail, sqHead, sqBegun, cqTail, cqHead } = this.#layout;
    for (const word of [sqTail, sqHead, sqBegun, cqTail, cqHead])
      Atomics.store(this.#words, word, cursor | 0);
  }

  /** Writes bytes to the submission ring and publishes them, or as many as it says. */
  submit(bytes: Uint8Array, published = bytes.length): void {
    const tail = this.sqTail;
    this.#bytes.set(bytes, this.#layout.sqOffset + (tail & this.#mask));
    Atomics.store(this.#words, this.#layout.sqTail, (tail + published) | 0);
  }

  /** A record, padded. */
  static record(
    kind: number,
    id: number,
    a: number,
    b: number,
    payload: Uint8Array = new Uint8Array(0),
    { more = false, total = payload.length }: { more?: boolean; total?: number } = {},
  ): Uint8Array {
    const bytes = new Uint8Array(24 + ((payload.length + 7) & ~7));
    const view = new DataView(bytes.buffer);
    view.setUint32(0, payload.length, true);
    view.setUint8(4, kind);
    view.setUint8(5, more ? 1 : 0);
    view.setUint32(8, id, true);
    view.setUint32(12, a, true);
    view.setUint32(16, b, true);
    view.setUint32(20, total, true);
    bytes.set(payload, 24);
    return bytes;
  }

  /** What the completion ring holds, not taken. */
  completed(): Uint8Array {
    const from = this.#layout.cqOffset + (this.cqHead & this.#mask);
    return this.#bytes.slice(from, from + ((this.cqTail - this.cqHead) >>> 0));
  }

  /** Reads all completions, and gives back their room. */
  take(): Completion[] {
    const seen: Completion[] = [];
    let head = this.cqHead;
    while (head !== this.cqTail) {
      const at = this.#layout.cqOffset + (head & this.#mask);
      const u32 = (offset: number) => this.#view.getUint32(at + offset, true);
      const length = u32(0);
      seen.push({
        kind: this.#view.getUint8(at + 4),
        more: this.#view.getUint8(at + 5) === 1,
        id: u32(8),
        a: u32(12),
        b: u32(16),
        total: u32(20),
        payload: this.#bytes.slice(at + 24, at + 24 + length),
      });
      head = (head + 24 + ((length + 7) & ~7)) >>> 0;
    }
    Atomics.store(this.#words, this.#layout.cqHead, head | 0);
    return seen;
  }

  /** Whether the host has asked to be told of room in the completion ring. */
  get hostWantsRoom(): boolean {
    return Atomics.load(this.#words, this.#layout.cqRoom) !== 0;
  }
}
