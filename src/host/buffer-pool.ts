/**
 * Buffers for messages of more than one record, used again: one that is new for each large message
 * is memory that the garbage collector gives back late.
 *
 * Thread: the environment's own. Invariant: who has taken a buffer has it alone until it is given
 * back; its bytes past what was asked for, and those of the last user, are undefined.
 */

/** Smaller ones are not worth keeping, larger ones too much to keep. */
const LEAST_BYTES = 4096;
const MOST_KEPT_BYTES = 16 * 1024 * 1024;

export class BufferPool {
  readonly #free = new Map<number, Uint8Array[]>();
  #keptBytes = 0;

  /** A buffer of at least `bytes`. */
  take(bytes: number): Uint8Array {
    const size = Math.max(LEAST_BYTES, 2 ** Math.ceil(Math.log2(bytes)));
    const found = this.#free.get(size)?.pop();
    if (found === undefined) return new Uint8Array(size);
    this.#keptBytes -= size;
    return found;
  }

  /** A buffer that begins with a copy of `source`. */
  copy(source: Uint8Array): Uint8Array {
    const buffer = this.take(source.length);
    buffer.set(source);
    return buffer;
  }

  give(buffer: Uint8Array): void {
    if (this.#keptBytes + buffer.length > MOST_KEPT_BYTES) return;
    this.#keptBytes += buffer.length;
    const list = this.#free.get(buffer.length);
    if (list === undefined) this.#free.set(buffer.length, [buffer]);
    else list.push(buffer);
  }
}
