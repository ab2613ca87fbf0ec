/**
 * Values: docs/wire-format.md in JavaScript. What a codec would carry wrongly is refused
 * (src/http/carried.ts).
 *
 * @msgpack/msgpack encodes; decode.ts decodes ([ADR 6](../../docs/adr/0006-a-strict-decoder.md)).
 *
 * Thread: the environment's own. Invariant: a value comes out as it went in, or there is an error
 * that says where it lies.
 */
import { Encoder } from "@msgpack/msgpack";
import { checkCarried, MAX_DEPTH } from "../http/carried.js";

export { UncarriableError } from "../http/carried.js";
export { decode, decodeArguments, DecodeError } from "./decode.js";

const encoder = new Encoder({
  useBigInt64: true,
  ignoreUndefined: true,
  // Integers, too: Lua's numbers are doubles, and −0 stays −0.
  forceIntegerToFloat: true,
  maxDepth: MAX_DEPTH + 2,
});
/**
 * Encodes one value.
 * @returns a view of a buffer that the next call overwrites.
 * @throws {UncarriableError} when Lua has no counterpart for it, or for a part of it.
 */
export function encode(value: unknown): Uint8Array {
  checkCarried(value, "");
  return encoder.encodeSharedRef(value);
}
