/**
 * The two messages that each request with a plugin costs, read and written by hand: the head as one
 * byte string (a Uint8Array would be an ArrayBuffer for the garbage collector to mind; measured: 7.0
 * to 5.2 µs of Node's CPU a request), the changes without a general encoder. What they do not know
 * is the codec's.
 *
 * Thread: the environment's own. Invariant: docs/wire-format.md, as codec.ts has it.
 */
import { decodeArguments, encode } from "./codec.js";

const latin1Slice = (
  Buffer.prototype as unknown as Record<
    "latin1Slice",
    (this: Uint8Array, from: number, to: number) => string
  >
).latin1Slice;

const NIL = 0xc0;
const ARRAY_OF_3 = 0x93;
const ARRAY_OF_4 = 0x94;
const NO_CHANGES = new Uint8Array([NIL]);

/** The arguments of `run`: head, vars, ctx, chunk; the head as a byte string. */
export function decodeRun(bytes: Uint8Array, offset: number, length: number): unknown {
  const end = offset + length;
  if (length < 3 || bytes[offset] !== ARRAY_OF_4) return decodeArguments(bytes, offset, length);
  let at = offset + 1;
  let size: number;
  if (bytes[at] === 0xc4) {
    size = bytes[at + 1]!;
    at += 2;
  } else if (bytes[at] === 0xc5) {
    size = (bytes[at + 1]! << 8) | bytes[at + 2]!;
    at += 3;
  } else {
    return decodeArguments(bytes, offset, length);
  }
  const rest = at + size;
  if (rest + 3 > end) return decodeArguments(bytes, offset, length); // which tells what is wrong
  const head = latin1Slice.call(bytes, at, rest);
  if (rest + 3 === end && bytes[rest] === NIL && bytes[rest + 1] === NIL && bytes[rest + 2] === NIL)
    return [head, null, null, null];
  // The head's last byte has been read: there the head of an array of the rest has room.
  bytes[rest - 1] = ARRAY_OF_3;
  const others = decodeArguments(bytes, rest - 1, end - rest + 1) as unknown[];
  others.unshift(head);
  return others;
}

const LONG_TEXT = 24;
const MOST_TEXT = 0xffff;
const out = Buffer.allocUnsafeSlow(65_536);
/** The same bytes: a view of it costs less than one of a Buffer. */
const sent = new Uint8Array(out.buffer);
const ASCII = /^[\0-\x7f]*$/;
/** Where the next byte goes. */
let at = 0;

/** Writes one item; false when it is the codec's. */
function put(item: unknown): boolean {
  if (typeof item === "string") return putText(item);
  if (item === null) {
    out[at++] = NIL;
    return true;
  }
  if (typeof item !== "number" || item < 0 || item > 0xffff || !Number.isInteger(item))
    return false;
  if (item < 128) {
    if (Object.is(item, -0)) return false;
    out[at++] = item;
  } else {
    out[at] = 0xcd;
    out[at + 1] = item >> 8;
    out[at + 2] = item & 0xff;
    at += 3;
  }
  return true;
}

function putText(text: string): boolean {
  const { length } = text;
  if (length < LONG_TEXT) {
    out[at] = 0xa0 | length;
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code > 0x7f) return false;
      out[at + 1 + i] = code;
    }
    at += 1 + length;
    return true;
  }
  if (length > MOST_TEXT || at + length + 3 > out.length || !ASCII.test(text)) return false;
  if (length < 32) {
    out[at++] = 0xa0 | length;
  } else {
    out[at] = 0xda;
    out[at + 1] = length >> 8;
    out[at + 2] = length & 0xff;
    at += 3;
  }
  out.write(text, at, "latin1");
  at += length;
  return true;
}

/** The result of `run` and `resume`. @returns a view that the next call overwrites. */
export function encodeChanges(changes: unknown): Uint8Array {
  if (changes === null) return NO_CHANGES;
  if (!Array.isArray(changes) || changes.length >= 128) return encode(changes);
  at = 0;
  if (changes.length < 16) {
    out[at++] = 0x90 | changes.length;
  } else {
    out[0] = 0xdc;
    out[1] = 0;
    out[2] = changes.length;
    at = 3;
  }
  for (let i = 0; i < changes.length; i++) {
    // Room for any short item.
    if (at > out.length - LONG_TEXT - 1 || !put(changes[i])) return encode(changes);
  }
  return sent.subarray(0, at);
}
