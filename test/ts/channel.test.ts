/** channel.ts on a real mapping, with Lua's side played by hand. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Channel } from "../../src/host/channel.ts";
import { Kind } from "../../src/host/wire.ts";
import { LuaSide, newNative } from "./lua-side.ts";

const CURSORS = [0, 0x1_0000_0000 - 4096, 0x1_0000_0000 - 8, 0x7fff_f000];
const bytesOf = (length: number, from = 0) =>
  Uint8Array.from({ length }, (_, i) => (from + i * 7) % 256);

function open(cursor: number, ringBytes = 4096) {
  const native = newNative(ringBytes);
  const lua = new LuaSide(native);
  lua.startAt(cursor);
  return { native, lua, channel: new Channel(native) };
}

interface Message {
  kind: number;
  id: number;
  parts: Uint8Array[];
}

/** The messages of all completions, chunks joined. */
function messages(lua: LuaSide, partial: Map<number, Message>) {
  const whole: { kind: number; id: number; payload: Uint8Array }[] = [];
  for (const { kind, more, id, payload } of lua.take()) {
    const message = kind === Kind.chunk ? partial.get(id) : { kind, id, parts: [] };
    assert.ok(message, `a chunk of ${id} without a beginning`);
    message.parts.push(payload);
    partial.set(id, message);
    if (!more) {
      partial.delete(id);
      const joined = new Uint8Array(Buffer.concat(message.parts));
      whole.push({ kind: message.kind, id, payload: joined });
    }
  }
  return whole;
}

describe("the stand-alone channel", () => {
  it("refuses a size that is none of a ring's", () => {
    for (const bytes of [0, 1, 5000, 2048, -1, 2 ** 31, NaN]) {
      assert.throws(() => newNative(bytes), /power of two/, String(bytes));
    }
  });
});

for (const cursor of CURSORS) {
  describe(`a channel with cursors from 0x${cursor.toString(16)}`, () => {
    it("hands out submissions in order, across the ring's end", () => {
      const { lua, channel } = open(cursor);
      let sent = 0;
      let got = 0;
      for (let round = 0; round < 500; round++) {
        for (let i = 0; i < 1 + (round % 3); i++) {
          lua.submit(
            LuaSide.record(Kind.call, sent, sent + 1, 9, bytesOf((sent * 13) % 900, sent)),
          );
          sent++;
        }
        channel.drain((record) => {
          assert.equal(record.id, got);
          assert.equal(record.a, got + 1);
          const payload = channel.bytes.slice(record.offset, record.offset + record.length);
          assert.deepEqual(payload, bytesOf((got * 13) % 900, got));
          got++;
        });
        assert.equal(got, sent);
        assert.equal(lua.sqHead, lua.sqTail);
      }
    });

    it("sends messages of every size around a record's limit, whole", () => {
      const { lua, channel } = open(cursor);
      for (const size of [0, 1, 7, 8, 9, 999, 1000, 1001, 1999, 2000, 2001, 3000, 5000]) {
        const partial = new Map<number, Message>();
        channel.send(Kind.result, size + 1, 0, bytesOf(size));
        let seen = messages(lua, partial);
        for (let i = 0; i < 100 && seen.length === 0; i++) {
          channel.drain(() => undefined);
          seen = messages(lua, partial);
        }
        assert.equal(seen.length, 1, `${size} bytes`);
        assert.deepEqual(seen[0], { kind: Kind.result, id: size + 1, payload: bytesOf(size) });
        assert.equal(channel.waiting, 0);
      }
    });

    it("waits for room, asks for it, and keeps what it must send in order", () => {
      const { lua, channel } = open(cursor);
      const shared = new Uint8Array(700);
      for (let i = 0; i < 40; i++) {
        shared.fill(i);
        channel.send(Kind.result, i + 1, 0, shared);
      }
      shared.fill(255);
      assert.ok(channel.waiting > 30);
      assert.ok(lua.hostWantsRoom);
      const partial = new Map<number, Message>();
      const seen = messages(lua, partial);
      for (let i = 0; i < 100 && seen.length < 40; i++) {
        channel.drain(() => undefined);
        seen.push(...messages(lua, partial));
      }
      assert.deepEqual(
        seen.map(({ id }) => id),
        Array.from({ length: 40 }, (_, i) => i + 1),
      );
      for (const { id, payload } of seen) {
        assert.deepEqual(payload, new Uint8Array(700).fill(id - 1));
      }
      assert.equal(channel.waiting, 0);
    });
  });
}

describe("listening", () => {
  it("delivers what came before and after, until it is closed", async () => {
    const { native, lua, channel } = open(0, 65536);
    const ids: number[] = [];
    let arrived: () => void = () => undefined;
    lua.submit(LuaSide.record(Kind.call, 1, 0, 0));
    const first = new Promise<void>((resolve) => (arrived = resolve));
    channel.listen(() => {
      const count = channel.drain(({ id }) => ids.push(id));
      arrived();
      return count;
    }, 100);
    await first;
    const second = new Promise<void>((resolve) => (arrived = resolve));
    lua.submit(LuaSide.record(Kind.call, 2, 0, 0)); // it still spins: nobody rings
    await second;
    assert.deepEqual(ids, [1, 2]);
    assert.throws(() => native.listen(() => 0, 0), /already/);
    channel.close();
    channel.close();
  });
});
