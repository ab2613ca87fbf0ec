/**
 * Values: docs/wire-format.md in JavaScript. What a codec would carry wrongly is refused
 * (src/http/carried.ts).
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
import { checkCarried, MAX_DEPTH } from "../http/carried.js";

export { UncarriableError } from "../http/carried.js";

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

/**
 * Encodes one value.
 * @returns a view of a buffer that the next call overwrites.
 * @throws {UncarriableError} when Lua has no counterpart for it, or for a part of it.
 */
export function encode(value: unknown): Uint8Array {
  checkCarried(value, "");
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
