/**
 * Values: docs/wire-format.md in JavaScript, and what must be refused because a codec would carry
 * it wrongly.
 *
 * Two codecs: msgpackr decodes in place, where @msgpack/msgpack makes a view and a DataView of
 * each message (measured: 88 ns against 430 for one short string); @msgpack/msgpack encodes −0 as
 * it is, where msgpackr makes it 0.
 *
 * Thread: the environment's own. Invariant: a value comes out as it went in, or there is an error
 * that says where it lies.
 */
import { Encoder } from "@msgpack/msgpack";
// The order matters: see bom-keeping-decoder.ts.
import { restoreTextDecoder } from "./bom-keeping-decoder.js";
import { Unpackr } from "msgpackr/unpack";
import { MAX_DEPTH } from "./wire.js";

restoreTextDecoder();

const encoder = new Encoder({
  useBigInt64: true,
  ignoreUndefined: true,
  // Integers, too: Lua's numbers are doubles, and −0 stays −0.
  forceIntegerToFloat: true,
  maxDepth: MAX_DEPTH + 2,
});
const decoder = new Unpackr({
  useRecords: false,
  mapsAsObjects: true,
  int64AsType: "bigint",
  // The ring's bytes are Lua's again after the call.
  copyBuffers: true,
});
const range = { start: 0, end: 0 };

const SURROGATE = /[\uD800-\uDFFF]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Node 20 has String.prototype.isWellFormed, Node 18 has not. */
const isWellFormed: (text: string) => boolean =
  "isWellFormed" in String.prototype
    ? (text) => (text as string & { isWellFormed(): boolean }).isWellFormed()
    : (text) => !SURROGATE.test(text) || !LONE_SURROGATE.test(text);

const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;

/** The value at `path` has no counterpart in Lua. */
export class UncarriableError extends TypeError {}

function refuse(path: string, what: string): never {
  throw new UncarriableError(path === "" ? what : `${what} at ${path}`);
}

function checkString(text: string, path: string): void {
  if (!isWellFormed(text)) refuse(path, "a string with a lone surrogate, which is not UTF-8");
}

function checkObject(value: object, path: string, depth: number): void {
  if (ArrayBuffer.isView(value)) {
    if (value instanceof Uint8Array) return;
    refuse(path, `a ${value.constructor.name}: send a Uint8Array`);
  }
  if (depth >= MAX_DEPTH) refuse(path, `nesting deeper than ${MAX_DEPTH}, or a cycle`);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const item: unknown = value[i];
      // A hole or undefined would come back as null.
      if (item === undefined) refuse(`${path}[${i}]`, "undefined in an array");
      check(item, path, i, depth + 1);
    }
    return;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null && !isForeignPlain(prototype)) {
    const name = (value as { constructor?: { name?: string } }).constructor?.name ?? "object";
    refuse(path, `a ${name}: send plain objects, arrays, strings, numbers or Uint8Array`);
  }
  if (Object.getOwnPropertySymbols(value).length > 0) refuse(path, "an object with symbol keys");
  for (const key of Object.keys(value)) {
    checkString(key, path);
    check((value as Record<string, unknown>)[key], path, key, depth + 1);
  }
}

/** An Object.prototype of another realm (vm contexts). */
function isForeignPlain(prototype: unknown): boolean {
  return (
    Object.getPrototypeOf(prototype) === null && Object.hasOwn(prototype as object, "isPrototypeOf")
  );
}

function check(
  value: unknown,
  parent: string,
  key: string | number | undefined,
  depth: number,
): void {
  switch (typeof value) {
    case "number":
    case "boolean":
    case "undefined":
      return;
    case "string":
      if (!isWellFormed(value)) checkString(value, join(parent, key));
      return;
    case "bigint":
      if (value < INT64_MIN || value > UINT64_MAX) {
        refuse(join(parent, key), "a bigint of more than 64 bits");
      }
      return;
    case "object":
      if (value !== null) checkObject(value, join(parent, key), depth);
      return;
    default:
      refuse(join(parent, key), `a ${typeof value}`);
  }
}

function join(parent: string, key: string | number | undefined): string {
  if (key === undefined) return parent;
  return typeof key === "number" ? `${parent}[${key}]` : `${parent}.${key}`;
}

/**
 * Checks what encode will take.
 * @param path how the value is called in messages.
 * @throws {UncarriableError} when Lua has no counterpart for it, or for a part of it.
 */
export function checkCarried(value: unknown, path: string): void {
  check(value, path, undefined, 0);
}

/**
 * Encodes one value.
 * @returns a view of a buffer that the next call overwrites.
 * @throws {UncarriableError} when Lua has no counterpart for it, or for a part of it.
 */
export function encode(value: unknown): Uint8Array {
  check(value, "", undefined, 0);
  return encoder.encodeSharedRef(value);
}

/**
 * Decodes the one value in `bytes` from offset, `length` long. Nothing of the result is a view of
 * `bytes`.
 * @throws {Error} when it is not MessagePack.
 */
export function decode(bytes: Uint8Array, offset: number, length: number): unknown {
  // To msgpackr an end of 0 means all there is.
  if (length === 0) throw new RangeError("an empty message holds no value");
  range.start = offset;
  range.end = offset + length;
  return decoder.unpack(bytes, range);
}
