/** http-codec.ts against codec.ts: the same values, for whatever comes. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { decode, encode } from "../../../src/host/codec.ts";
import { decodeRun, encodeChanges } from "../../../src/host/http-codec.ts";

const latin1 = (head: string): Buffer => Buffer.from(head, "latin1");

const byteStrings = fc
  .uint8Array({ maxLength: 70_000, size: "large" })
  .map((bytes) => Buffer.from(bytes).toString("latin1"));
const values = fc.oneof(
  fc.constant(null),
  fc.boolean(),
  fc.integer(),
  fc.double(),
  fc.constantFrom(0, -0, 1, 127, 128, 255, 65_535, 65_536, -1, 1.5, NaN),
  fc.string({ maxLength: 300, unit: "binary-ascii" }),
  fc.string({ maxLength: 60, unit: "grapheme" }),
  fc.constantFrom(23, 24, 31, 32, 255, 256, 65_535, 65_536).map((length) => "x".repeat(length)),
  fc.uint8Array({ maxLength: 300 }),
  fc.array(fc.string({ unit: "binary-ascii" }), { maxLength: 5 }),
);

describe("the codec of plugins' messages", () => {
  test("reads what the general codec reads, the head as a byte string", () => {
    fc.assert(
      fc.property(byteStrings, values, values, values, fc.nat(40), (head, a, b, c, before) => {
        const message = encode([latin1(head), a, b, c]);
        const bytes = new Uint8Array(before + message.length + 9);
        bytes.set(message, before);
        const general = decode(bytes, before, message.length) as unknown[];
        const [own, ...others] = decodeRun(bytes, before, message.length) as unknown[];
        assert.ok(own === head || latin1(head).equals(own as Uint8Array));
        assert.deepEqual(others, general.slice(1));
      }),
      { numRuns: 300 },
    );
  });

  test("writes what reads back as it was", () => {
    fc.assert(
      fc.property(fc.array(values, { maxLength: 140 }), (changes) => {
        const own = Uint8Array.from(encodeChanges(changes));
        const read = decode(own, 0, own.length);
        const general = Uint8Array.from(encode(changes));
        assert.deepEqual(read, decode(general, 0, general.length));
      }),
      { numRuns: 500 },
    );
    assert.equal(decode(Uint8Array.from(encodeChanges(null)), 0, 1), null);
  });

  test("a message that is none is an error, wherever it ends", () => {
    const message = Uint8Array.from(encode([latin1("x".repeat(300)), null, { a: 1 }, null]));
    for (let length = 0; length < message.length; length++) {
      assert.throws(() => decodeRun(message.slice(0, length), 0, length), `${length} bytes`);
    }
  });
});
