/**
 * MessagePack to values, strictly docs/wire-format.md: what this takes, lua/resty/ts/decode.lua takes,
 * and what it refuses, that refuses (test/fuzz compares the two).
 *
 * Thread: the environment's own; one message at a time, nothing here calls out. Invariant: nothing
 * outside of the given bytes is read, nothing of the result is a view of them, and neither depth
 * nor memory goes beyond the limits, whatever is in them.
 */
import { MAX_DEPTH, MAX_ELEMENTS } from "../http/carried.js";

/** Bytes that hold no value of ours. */
export class DecodeError extends Error {}

/** Buffer's own, on any Uint8Array: no view is made for a string. */
const { utf8Slice } = Buffer.prototype as unknown as Record<
  "utf8Slice",
  (this: Uint8Array, from: number, to: number) => string
>;
const fromCharCode = String.fromCharCode;

/** Longer ones are cheaper by a call to native code. */
const SHORT_TEXT = 24;

const float = new Float64Array(1);
/** Little endian, as all that Node runs on is. */
const halves = new Int32Array(float.buffer);

let src: Uint8Array = new Uint8Array(0);
let pos = 0;
let end = 0;
let elementsLeft = 0;

function need(bytes: number): void {
  if (bytes > end - pos) throw new DecodeError("a value ends before its last byte");
}

function u8(): number {
  need(1);
  return src[pos++]!;
}

function u16(): number {
  need(2);
  const value = (src[pos]! << 8) | src[pos + 1]!;
  pos += 2;
  return value;
}

function u32(): number {
  need(4);
  const value =
    src[pos]! * 0x100_0000 + ((src[pos + 1]! << 16) | (src[pos + 2]! << 8) | src[pos + 3]!);
  pos += 4;
  return value;
}

function float64(): number {
  need(8);
  halves[1] = (src[pos]! << 24) | (src[pos + 1]! << 16) | (src[pos + 2]! << 8) | src[pos + 3]!;
  halves[0] = (src[pos + 4]! << 24) | (src[pos + 5]! << 16) | (src[pos + 6]! << 8) | src[pos + 7]!;
  pos += 8;
  return float[0]!;
}

function u64(): bigint {
  const high = u32();
  return (BigInt(high) << 32n) | BigInt(u32());
}

function text(length: number): string {
  need(length);
  const from = pos;
  pos += length;
  if (length <= SHORT_TEXT) {
    let short = "";
    let all = 0;
    let i = from;
    for (; i + 4 <= pos; i += 4) {
      const a = src[i]!;
      const b = src[i + 1]!;
      const c = src[i + 2]!;
      const d = src[i + 3]!;
      all |= a | b | c | d;
      short += fromCharCode(a, b, c, d);
    }
    for (; i < pos; i++) {
      all |= src[i]!;
      short += fromCharCode(src[i]!);
    }
    if (all < 0x80) return short;
  }
  return utf8Slice.call(src, from, pos);
}

function bytes(length: number): Uint8Array {
  need(length);
  pos += length;
  return src.slice(pos - length, pos);
}

/** An array or map begins. Each element takes a byte at least: a count that lies makes no work. */
function enter(elements: number, depth: number): void {
  if (depth >= MAX_DEPTH) throw new DecodeError(`nesting deeper than ${MAX_DEPTH}`);
  need(elements);
  elementsLeft -= elements;
  if (elementsLeft < 0) throw new DecodeError(`more than ${MAX_ELEMENTS} elements`);
}

function array(length: number, depth: number): unknown[] {
  enter(length, depth);
  const list: unknown[] = [];
  for (let i = 0; i < length; i++) list.push(value(depth + 1));
  return list;
}

/** Keys come again and again: those seen last, where V8 has interned them. */
const keys: string[] = new Array<string>(512).fill("");

function shortKey(length: number): string {
  need(length);
  let hash = length;
  for (let i = pos; i < pos + length; i++) hash = (hash * 31 + src[i]!) | 0;
  hash &= 511;
  const known = keys[hash]!;
  if (known.length === length) {
    let i = 0;
    // No byte that is not ASCII is a character of the same number: those were made by utf8Slice.
    while (i < length && known.charCodeAt(i) === src[pos + i] && src[pos + i]! < 0x80) i++;
    if (i === length) {
      pos += length;
      return known;
    }
  }
  return (keys[hash] = text(length));
}

function key(): string {
  const code = u8();
  if (code >= 0xa0 && code < 0xc0) return shortKey(code & 31);
  if (code === 0xd9) return text(u8());
  if (code === 0xda) return text(u16());
  if (code === 0xdb) return text(u32());
  throw new DecodeError("a key that is no string");
}

function map(length: number, depth: number): Record<string, unknown> {
  enter(2 * length, depth);
  const object: Record<string, unknown> = {};
  for (let i = 0; i < length; i++) {
    const name = key();
    const item = value(depth + 1);
    // Assigned, it would become the object's prototype.
    if (name === "__proto__") {
      const own = { value: item, writable: true, enumerable: true, configurable: true };
      Object.defineProperty(object, name, own);
    } else object[name] = item;
  }
  return object;
}

function value(depth: number): unknown {
  if (pos >= end) throw new DecodeError("a value is missing");
  const code = src[pos++]!;
  if (code < 0x80) return code;
  if (code < 0x90) return map(code & 15, depth);
  if (code < 0xa0) return array(code & 15, depth);
  if (code < 0xc0) return text(code & 31);
  if (code >= 0xe0) return code - 256;
  switch (code) {
    case 0xc0:
      return null;
    case 0xc2:
      return false;
    case 0xc3:
      return true;
    case 0xc4:
      return bytes(u8());
    case 0xc5:
      return bytes(u16());
    case 0xc6:
      return bytes(u32());
    case 0xcb:
      return float64();
    case 0xcc:
      return u8();
    case 0xcd:
      return u16();
    case 0xce:
      return u32();
    case 0xcf:
      return u64();
    case 0xd0:
      return (u8() << 24) >> 24;
    case 0xd1:
      return (u16() << 16) >> 16;
    case 0xd2:
      return u32() | 0;
    case 0xd3:
      return BigInt.asIntN(64, u64());
    case 0xd9:
      return text(u8());
    case 0xda:
      return text(u16());
    case 0xdb:
      return text(u32());
    case 0xdc:
      return array(u16(), depth);
    case 0xdd:
      return array(u32(), depth);
    case 0xde:
      return map(u16(), depth);
    case 0xdf:
      return map(u32(), depth);
    default:
      throw new DecodeError(`a MessagePack code that is not used here: ${code}`);
  }
}

function start(from: Uint8Array, offset: number, length: number, depth: number): unknown {
  if (length > from.length - offset) throw new DecodeError("a message that ends after its bytes");
  src = from;
  pos = offset;
  end = offset + length;
  elementsLeft = MAX_ELEMENTS;
  const decoded = value(depth);
  if (pos !== end) throw new DecodeError("bytes after the value");
  return decoded;
}

/**
 * Decodes the one value in `from` at offset, `length` long.
 * @throws {DecodeError} when it is none, goes deeper than MAX_DEPTH or has more than MAX_ELEMENTS.
 */
export function decode(from: Uint8Array, offset: number, length: number): unknown {
  return start(from, offset, length, 0);
}

/** As decode; the array of the arguments does not count as depth. */
export function decodeArguments(from: Uint8Array, offset: number, length: number): unknown {
  return start(from, offset, length, -1);
}
