/**
 * The golden vectors in TypeScript: values through codec.ts, records through channel.ts on a real mapping that the
 * stand-alone addon makes.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Channel, ProtocolError, type RecordHeader } from "../../src/host/channel.ts";
import { decode as decodeAt, encode } from "../../src/host/codec.ts";
import { HEADER_BYTES, Kind } from "../../src/host/wire.ts";
import { LuaSide, newNative } from "../ts/lua-side.ts";
import { hex, make, unhex, vectors } from "./vectors.ts";

const decode = (bytes: Uint8Array): unknown => decodeAt(bytes, 0, bytes.length);

describe("golden values", () => {
  for (const { name, value, lua, js } of vectors.values) {
    it(`TypeScript writes ${name}`, () => {
      assert.equal(hex(encode(make(value))), js ?? lua);
    });
    it(`TypeScript reads ${name} of both sides`, () => {
      assert.deepStrictEqual(decode(unhex(lua)), make(value));
      assert.deepStrictEqual(decode(unhex(js ?? lua)), make(value));
    });
  }
  for (const { name, value, hex: text } of vectors.decodeOnly) {
    it(`TypeScript reads ${name}`, () => {
      assert.deepStrictEqual(decode(unhex(text)), make(value));
    });
  }
  for (const { name, hex: text } of vectors.malformed) {
    it(`TypeScript refuses ${name}`, () => {
      assert.throws(() => decode(unhex(text)));
    });
  }
});

/** What drain hands out, with the payload as hex. */
function drainAll(channel: Channel): (RecordHeader & { payload: string })[] {
  const seen: (RecordHeader & { payload: string })[] = [];
  channel.drain((record) => {
    const payload = channel.bytes.slice(record.offset, record.offset + record.length);
    seen.push({ ...record, payload: hex(payload) });
  });
  return seen;
}

describe("golden records", () => {
  for (const vector of vectors.records) {
    it(`TypeScript ${vector.from === "lua" ? "reads" : "writes"} ${vector.name}`, () => {
      const native = newNative(4096);
      const channel = new Channel(native);
      const lua = new LuaSide(native);
      if (vector.from === "lua") {
        lua.submit(unhex(vector.hex));
        const { length, kind, more, pending, id, a, b, total, payload } = drainAll(channel)[0]!;
        assert.deepEqual(
          { length, kind, more, pending, id, a, b, total, payload },
          {
            length: vector.payload.length / 2,
            kind: vector.kind,
            more: vector.flags === 1,
            pending: vector.pending,
            id: vector.id,
            a: vector.a,
            b: vector.b,
            total: vector.total,
            payload: vector.payload,
          },
        );
        assert.equal(lua.sqHead, vector.hex.length / 2);
      } else {
        channel.send(vector.kind, vector.id, vector.a, unhex(vector.payload));
        assert.equal(hex(lua.completed()), vector.hex);
      }
    });
  }

  for (const vector of vectors.messages) {
    it(`TypeScript ${vector.from === "lua" ? "reads" : "writes"} the records of ${vector.name}`, () => {
      const native = newNative(vector.ring_bytes);
      const channel = new Channel(native);
      const lua = new LuaSide(native);
      if (vector.from === "lua") {
        lua.submit(unhex(vector.hex));
        const seen = drainAll(channel);
        assert.equal(seen.map(({ payload }) => payload).join(""), vector.payload);
        assert.deepEqual(
          seen.map(({ kind, more }) => ({ kind, more })),
          [
            { kind: vector.kind, more: true },
            { kind: Kind.chunk, more: true },
            { kind: Kind.chunk, more: false },
          ],
        );
        assert.equal(seen[0]!.total, vector.payload.length / 2);
      } else {
        channel.send(vector.kind, vector.id, vector.a, unhex(vector.payload));
        assert.equal(hex(lua.completed()), vector.hex);
      }
    });
  }

  for (const vector of vectors.badRecords) {
    it(`TypeScript refuses ${vector.name}`, () => {
      const native = newNative(vector.ring_bytes);
      const channel = new Channel(native);
      new LuaSide(native).submit(unhex(vector.hex), vector.published);
      const kinds: number[] = [];
      // A kind that Lua does not send is for the handler to refuse; it must see no other bad record.
      try {
        channel.drain(({ kind }) => kinds.push(kind));
        assert.ok(kinds[0] === 0 || kinds[0]! > Kind.chunk, `kind ${kinds[0]}`);
      } catch (error) {
        assert.ok(error instanceof ProtocolError, String(error));
        assert.deepEqual(kinds, []);
      }
    });
  }

  it("a header is 24 bytes", () => {
    assert.equal(HEADER_BYTES, 24);
  });
});
