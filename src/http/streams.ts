/**
 * Bodies of Responses that are still being made: Lua pulls a piece when the client has taken the one
 * before, so a slow client holds its handler back.
 *
 * Thread: the environment's own. Invariant: a stream is in the table until its end has been pulled
 * or it was cancelled, and is read by one pull at a time.
 */
import { RestyTsError } from "../sdk/errors.js";
import { type BodyRest, chunkBytes } from "./response.js";
import type { Run } from "./run.js";

/** What one pull brings at most when more is there already. */
const MAX_PULL_BYTES = 16_384;
/** So many turns a source that is ready may take to say so. */
const TURNS = 4;

interface Stream {
  readonly run: Run;
  readonly reader: BodyRest["reader"];
  next: BodyRest["next"];
}

type ReadResult = Awaited<BodyRest["next"]>;

/** What has settled, or settles without waiting; undefined when there is nothing. */
async function ready(next: Promise<ReadResult>): Promise<ReadResult | undefined> {
  let settled: ReadResult | undefined;
  void next.then(
    (result) => (settled = result),
    () => undefined, // the next pull is told
  );
  for (let i = 0; i < TURNS && settled === undefined; i++) await Promise.resolve();
  return settled;
}

export class Streams {
  readonly #streams = new Map<number, Stream>();
  #last: number;

  /** @param firstId all ids are larger. */
  constructor(firstId: number) {
    this.#last = firstId;
  }

  get size(): number {
    return this.#streams.size;
  }

  open(run: Run, { reader, next }: BodyRest): number {
    this.#streams.set(++this.#last, { run, reader, next });
    return this.#last;
  }

  /**
   * The next piece; null at the end.
   * @throws what the handler's stream failed with.
   */
  async pull(id: number): Promise<Uint8Array | null> {
    const stream = this.#streams.get(id);
    if (stream === undefined) throw new RestyTsError("aborted", `stream ${id} has ended`);
    try {
      let result: ReadResult | undefined = await stream.next;
      const parts: Uint8Array[] = [];
      let length = 0;
      for (;;) {
        if (result.done) {
          // What came with the end goes out first; the next pull finds the end again.
          if (parts.length > 0) break;
          this.#streams.delete(id);
          return null;
        }
        const chunk = chunkBytes(result.value);
        parts.push(chunk);
        length += chunk.length;
        stream.next = stream.reader.read();
        stream.next.catch(() => undefined); // the next pull is told
        if (length >= MAX_PULL_BYTES) break;
        result = await ready(stream.next);
        if (result === undefined) break;
      }
      return parts.length === 1 ? parts[0]! : Buffer.concat(parts, length);
    } catch (error) {
      this.cancel(id, error);
      throw error;
    }
  }

  cancel(id: number, reason: unknown): void {
    const stream = this.#streams.get(id);
    if (stream === undefined) return;
    this.#streams.delete(id);
    stream.reader.cancel(reason).catch(() => undefined); // it has ended, for whatever reason
    stream.run.abort(
      reason instanceof RestyTsError
        ? reason
        : new RestyTsError("aborted", "the response's stream failed"),
    );
  }
}
