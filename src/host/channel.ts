/**
 * The host's side of a channel: reads submissions from and writes completions to the shared
 * mapping, which it sees as one ArrayBuffer.
 *
 * Thread: the environment's own. Invariant: `Atomics` on the cursors and flags (seq_cst) pair with
 * native/channel/ring.c; a record's bytes are read before sqHead is stored past it, and written
 * before cqTail is. The rings are mapped twice in a row, so no record wraps.
 */
import { BufferPool } from "./buffer-pool.js";
import { Turn } from "./turn.js";
import { FLAG_MORE, HEADER_BYTES, Kind } from "./wire.js";

/** What native/addon gives: see addon.h. */
export interface NativeChannel {
  readonly memory: ArrayBuffer;
  readonly layout: {
    readonly sqOffset: number;
    readonly cqOffset: number;
    readonly ringBytes: number;
    readonly protocol: number;
    /** Indexes of 32-bit words. */
    readonly sqTail: number;
    readonly sqHead: number;
    readonly sqBegun: number;
    readonly sqRoom: number;
    readonly cqTail: number;
    readonly cqHead: number;
    readonly cqSleep: number;
    readonly cqRoom: number;
  };
  listen(callback: (most: number) => number, spinUs: number): void;
  wake(word: number, bits: number): void;
  close(): void;
}

/** One record's header; the reader reuses it for every record. */
export interface RecordHeader {
  length: number;
  kind: number;
  more: boolean;
  /** How many calls are pending with this one; in a CALL. */
  pending: number;
  id: number;
  a: number;
  b: number;
  total: number;
  /** Where the payload begins in `Channel.bytes`. Valid until the handler returns. */
  offset: number;
}

export type RecordHandler = (record: RecordHeader) => void;

/** A message that did not fit yet. */
interface Waiting {
  kind: number;
  id: number;
  a: number;
  payload: Uint8Array;
  sent: number;
  /** The pool's, which payload is a view of. */
  buffer: Uint8Array;
}

const EMPTY = new Uint8Array(0);

/** Room is given back to Lua at least this often, in bytes read. */
const RELEASE_BYTES = 65_536;

/** The clock is read once for so many submissions, a power of two. */
const CLOCK_EVERY = 4;

export class ProtocolError extends Error {}

export class Channel {
  /** The whole mapping. */
  readonly bytes: Uint8Array;
  /** Bytes of each ring. */
  readonly ringBytes: number;
  readonly #native: NativeChannel;
  readonly #words: Int32Array;
  readonly #u32: Uint32Array;
  readonly #mask: number;
  readonly #maxPayload: number;
  readonly #layout: NativeChannel["layout"];
  readonly #record: RecordHeader = {
    length: 0,
    kind: 0,
    more: false,
    pending: 0,
    id: 0,
    a: 0,
    b: 0,
    total: 0,
    offset: 0,
  };
  #sqHead: number;
  #cqTail: number;
  /** Lua's cursor as we saw it last: room is at least what it says. */
  #cqHead: number;
  readonly #waiting: Waiting[] = [];
  /** For messages that are gathered or wait for room. */
  readonly buffers = new BufferPool();
  readonly turn = new Turn();

  constructor(native: NativeChannel) {
    const layout = native.layout;
    this.#native = native;
    this.#layout = layout;
    this.bytes = new Uint8Array(native.memory);
    this.#words = new Int32Array(native.memory);
    this.#u32 = new Uint32Array(native.memory);
    this.ringBytes = layout.ringBytes;
    this.#mask = layout.ringBytes - 1;
    this.#maxPayload = layout.ringBytes / 4 - HEADER_BYTES;
    this.#sqHead = Atomics.load(this.#words, layout.sqHead);
    this.#cqTail = Atomics.load(this.#words, layout.cqTail);
    this.#cqHead = Atomics.load(this.#words, layout.cqHead);
  }

  /** Messages that wait for room in the completion ring. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Hands the submissions that are there to `handle`, in order: `most` of them, and as many as fit
   * into this turn of the loop. What comes meanwhile is left to the next.
   * @returns how many there were, and in the high 16 bits the last one's `pending`: what the
   * listener chooses by how to wait (native/addon/listener.h).
   * @throws {ProtocolError} when a record does not lie within what is published.
   */
  drain(handle: RecordHandler, most = Infinity): number {
    this.turn.begin();
    if (this.#waiting.length > 0) this.#flush();
    const { sqTail, sqBegun, sqOffset } = this.#layout;
    const record = this.#record;
    const u32 = this.#u32;
    // Not where the last drain ended: one whose handler was terminated has not come to its end.
    let head = u32[sqBegun]! | 0;
    let released = this.#sqHead;
    let count = 0;
    const tail = Atomics.load(this.#words, sqTail);
    while (head !== tail) {
      const offset = sqOffset + (head & this.#mask);
      const available = (tail - head) >>> 0;
      const word = offset >>> 2;
      const length = u32[word]!;
      const kindAndFlags = u32[word + 1]!;
      const size = HEADER_BYTES + ((length + 7) & ~7);
      if (
        length > this.#maxPayload ||
        size > available ||
        available > this.ringBytes ||
        (kindAndFlags & 0xfe00) !== 0 ||
        (kindAndFlags > 0xffff && (kindAndFlags & 0xff) !== Kind.call)
      ) {
        throw new ProtocolError(
          `a submission of ${length} bytes, kind word ${kindAndFlags}, in ${available} published bytes`,
        );
      }
      record.length = length;
      record.kind = kindAndFlags & 0xff;
      record.pending = kindAndFlags >>> 16;
      record.more = (kindAndFlags & (FLAG_MORE << 8)) !== 0;
      record.id = u32[word + 2]!;
      record.a = u32[word + 3]!;
      record.b = u32[word + 4]!;
      record.total = u32[word + 5]!;
      record.offset = offset + HEADER_BYTES;
      head = (head + size) | 0;
      // Plain: it is read when this environment has ended, in the middle of what follows, perhaps.
      u32[sqBegun] = head;
      handle(record);
      count++;
      if ((head - released) >>> 0 >= RELEASE_BYTES) {
        released = head;
        this.#release(head);
      }
      if (count >= most || (count % CLOCK_EVERY === 0 && this.turn.isOver)) break;
    }
    if (head !== released) this.#release(head);
    return Math.min(count, 0xffff) + record.pending * 0x10000;
  }

  /**
   * Sends one message; what does not fit now is sent when Lua has made room. `payload` is copied
   * before this returns.
   * @param wakes false: Lua need not be woken for it.
   */
  send(kind: number, id: number, a: number, payload: Uint8Array = EMPTY, wakes = true): void {
    let sent = -1;
    if (this.#waiting.length === 0) {
      sent = this.#write(kind, id, a, payload, 0, wakes);
      if (sent === payload.length) return;
    }
    const buffer = this.buffers.copy(payload);
    const copy = buffer.subarray(0, payload.length);
    this.#waiting.push({ kind, id, a, payload: copy, sent, buffer });
    this.#flush();
  }

  /** @param onSubmissions is told how many to take at most; returns what `drain` does. */
  listen(onSubmissions: (most: number) => number, spinUs: number): void {
    this.#native.listen(onSubmissions, spinUs);
  }

  close(): void {
    this.#native.close();
  }

  #release(head: number): void {
    this.#sqHead = head;
    Atomics.store(this.#words, this.#layout.sqHead, head);
    this.#wake(this.#layout.sqRoom);
  }

  /** After a cursor's store: wakes the side that has set a bit in its flag. */
  #wake(flag: number): void {
    if (Atomics.load(this.#words, flag) !== 0) {
      const bits = Atomics.exchange(this.#words, flag, 0);
      if (bits !== 0) this.#native.wake(flag, bits);
    }
  }

  /** How many bytes may be written now. */
  #room(wanted: number): number {
    let room = this.ringBytes - ((this.#cqTail - this.#cqHead) >>> 0);
    if (room < wanted) {
      this.#cqHead = Atomics.load(this.#words, this.#layout.cqHead);
      room = this.ringBytes - ((this.#cqTail - this.#cqHead) >>> 0);
    }
    return room;
  }

  /**
   * Writes records of a message from `sent` on (-1: none yet) while there is room.
   * Returns how much of the payload is sent now; -1 when not even the first record is.
   */
  #write(
    kind: number,
    id: number,
    a: number,
    payload: Uint8Array,
    sent: number,
    wakes = true,
  ): number {
    let first = sent <= 0;
    let at = Math.max(sent, 0);
    for (;;) {
      const length = Math.min(payload.length - at, this.#maxPayload);
      const size = HEADER_BYTES + ((length + 7) & ~7);
      if (this.#room(size) < size) return first ? -1 : at;
      const offset = this.#layout.cqOffset + (this.#cqTail & this.#mask);
      const word = offset >>> 2;
      const more = at + length < payload.length;
      const u32 = this.#u32;
      u32[word] = length;
      u32[word + 1] = (first ? kind : Kind.chunk) | (more ? FLAG_MORE << 8 : 0);
      u32[word + 2] = id;
      u32[word + 3] = a;
      u32[word + 4] = 0;
      u32[word + 5] = first ? payload.length : 0;
      if (length > 0) {
        this.bytes.set(
          length === payload.length ? payload : payload.subarray(at, at + length),
          offset + HEADER_BYTES,
        );
      }
      this.#cqTail = (this.#cqTail + size) | 0;
      Atomics.store(this.#words, this.#layout.cqTail, this.#cqTail);
      if (wakes) this.#wake(this.#layout.cqSleep);
      at += length;
      first = false;
      if (!more) return at;
    }
  }

  /** Sends what waits, and asks for a ring of our doorbell when some still does. */
  #flush(): void {
    for (;;) {
      for (let next = this.#waiting[0]; next !== undefined; next = this.#waiting[0]) {
        next.sent = this.#write(next.kind, next.id, next.a, next.payload, next.sent);
        if (next.sent < next.payload.length) break;
        this.buffers.give(next.buffer);
        this.#waiting.shift();
      }
      if (this.#waiting.length === 0) return;
      const seen = this.#cqHead;
      Atomics.or(this.#words, this.#layout.cqRoom, 1);
      if (Atomics.load(this.#words, this.#layout.cqHead) === seen) return;
      Atomics.and(this.#words, this.#layout.cqRoom, ~1);
    }
  }
}
