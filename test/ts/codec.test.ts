/** codec.ts alone: what goes out comes back, and what cannot go out is refused with its place. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import fc from "fast-check";
import { decode, encode, UncarriableError } from "../../src/host/codec.ts";

function roundTrip(value: unknown): unknown {
  const bytes = encode(value).slice();
  return decode(bytes, 0, bytes.length);
}

const key = fc.string({ unit: "binary" });
const values = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 5 },
    fc.constant(null),
    fc.boolean(),
    fc.double(),
    fc.string({ unit: "binary" }),
    fc.string({ unit: "binary", minLength: 30, maxLength: 500 }),
    fc.bigInt({ min: -(2n ** 63n), max: 2n ** 64n - 1n }),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie("value"), { maxLength: 20 }),
    fc.dictionary(key, tie("value"), { maxKeys: 20, noNullPrototype: true }),
  ),
})).value;

describe("codec", () => {
  it("random values come back, by Object.is in every leaf", () => {
    fc.assert(
      fc.property(values, (value) => {
        assert.deepStrictEqual(roundTrip(value), value);
      }),
      { numRuns: 2000 },
    );
  });

  it("random bytes are decoded or refused, and nothing outside of them is read", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        const inside = new Uint8Array(bytes.length + 32).fill(0xc0);
        inside.set(bytes, 16);
        let first: unknown;
        try {
          first = decode(inside, 16, bytes.length);
        } catch {
          return;
        }
        inside.fill(0x01, 0, 16).fill(0x01, 16 + bytes.length);
        assert.deepStrictEqual(decode(inside, 16, bytes.length), first);
      }),
      { numRuns: 3000 },
    );
  });

  it("a message ends where its bytes end", () => {
    const message = encode({ text: "x".repeat(100), list: [1, 2, 3] });
    const bytes = new Uint8Array([...new Uint8Array(16), ...message]); // as in a ring: not at 0
    for (let length = 0; length < message.length; length++) {
      assert.throws(() => decode(bytes, 16, length), `cut to ${length}`);
    }
  });

  it("a million elements are read and written, one more is refused", () => {
    const most = Array<null>(999_999).fill(null);
    assert.deepStrictEqual(roundTrip([most]), [most]);
    assert.throws(() => encode([most, 1]), /more than 1000000 elements/);
    const bytes = new Uint8Array(5 + 1_000_001).fill(0xc0);
    bytes.set([0xdd, 0x00, 0x0f, 0x42, 0x41]);
    assert.throws(() => decode(bytes, 0, bytes.length), /more than 1000000 elements/);
  });

  it("a key __proto__ is a key like any other", () => {
    const read = roundTrip(JSON.parse('{"__proto__":1}')) as object;
    assert.deepEqual(Object.keys(read), ["__proto__"]);
    assert.equal(Object.getPrototypeOf(read), Object.prototype);
  });

  it("undefined is null at the top, and leaves a key out", () => {
    assert.equal(roundTrip(undefined), null);
    assert.deepStrictEqual(roundTrip({ a: undefined, b: 1 }), { b: 1 });
  });

  it("decoded bytes stay when the buffer changes", () => {
    const bytes = encode([new Uint8Array([1, 2, 3]), "text"]).slice();
    const value = decode(bytes, 0, bytes.length);
    bytes.fill(0);
    assert.deepStrictEqual(value, [new Uint8Array([1, 2, 3]), "text"]);
  });

  const refused: [string, unknown, RegExp][] = [
    ["a Map", new Map(), /Map/],
    ["a Date", new Date(), /Date/],
    ["a symbol", Symbol("s"), /symbol/],
    ["a function", () => 1, /function/],
    ["a lone surrogate", "\ud800", /surrogate/],
    ["a bigint of 65 bits", 2n ** 64n, /64 bits/],
    ["a hole", [1, , 3], /undefined in an array/], // eslint-disable-line no-sparse-arrays
    ["a Float32Array", new Float32Array(1), /Float32Array/],
    ["a boxed string", Object("s"), /String/],
  ];
  for (const [name, value, pattern] of refused) {
    it(`${name} is refused, with its place`, () => {
      assert.throws(() => encode(value), pattern);
      assert.throws(
        () => encode({ list: [0, { deep: value }] }),
        (error: unknown) =>
          error instanceof UncarriableError && error.message.includes(".list[1].deep"),
      );
      assert.equal(roundTrip("after"), "after");
    });
  }
});
