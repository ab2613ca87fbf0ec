/** dispatcher.ts, modules.ts and compile.ts in plain Node, with Lua's side played by hand. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Channel, ProtocolError } from "../../src/host/channel.ts";
import { decode, encode } from "../../src/host/codec.ts";
import { compile } from "../../src/host/compile.ts";
import { Dispatcher } from "../../src/host/dispatcher.ts";
import { Logger } from "../../src/host/log.ts";
import { findFunction, ModuleLoader } from "../../src/host/modules.ts";
import { Kind } from "../../src/host/wire.ts";
import { errorCodes } from "../../src/sdk/error-codes.ts";
import { PROJECT_ROOT } from "../support/project.ts";
import { type Completion, LuaSide, newNative } from "./lua-side.ts";

const MODULES = join(PROJECT_ROOT, "test/lua/fixtures/modules");
const text = (value: string) => new TextEncoder().encode(value);
const ID = 0x10000;

const newLoader = () => new ModuleLoader(MODULES);

function open() {
  const native = newNative(65536);
  const channel = new Channel(native);
  const lua = new LuaSide(native);
  const options = { modules: MODULES, maxMessageBytes: 1 << 20, spinUs: 0 };
  const logger = new Logger(channel, 1 << 20);
  const dispatcher = new Dispatcher(channel, newLoader(), logger, options);
  const seen: Completion[] = [];
  /** [id, a] of the WAIT records. */
  const waits: [number, number][] = [];
  /** Submits records, and returns the first completion for this id. */
  const answer = async (id: number, ...records: Uint8Array[]): Promise<Completion> => {
    for (const record of records) lua.submit(record);
    for (let i = 0; i < 500; i++) {
      dispatcher.drain();
      for (const one of lua.take()) {
        if (one.kind === Kind.wait) waits.push([one.id, one.a]);
        else seen.push(one);
      }
      const found = seen.findIndex((one) => one.id === id && one.kind !== Kind.log);
      if (found >= 0) return seen.splice(found, 1)[0]!;
      await sleep(10);
    }
    throw new Error(`no answer to ${id}`);
  };
  const define = (module: string, ...names: string[]) => {
    lua.submit(LuaSide.record(Kind.module, 0, 0, 0, text(module)));
    names.forEach((name, i) => {
      lua.submit(LuaSide.record(Kind.function, 0, i, 0, text(name)));
    });
  };
  return { lua, dispatcher, answer, define, seen, waits };
}

const call = (id: number, fn: number, args: unknown[], timeoutMs = 5000) =>
  LuaSide.record(Kind.call, id, fn, deadlineIn(timeoutMs), encode(args).slice());
/** As Lua stamps a call. */
const deadlineIn = (ms: number) =>
  Number((process.hrtime.bigint() / 1_000_000n + BigInt(ms)) % 4_294_967_296n);
const value = ({ payload }: Completion) => decode(payload, 0, payload.length);

describe("the dispatcher", () => {
  it("answers calls, sync and async, each by its own id", async () => {
    const { answer, define } = open();
    define("calls.ts", "add", "addLater", "boom");
    const first = await answer(ID, call(ID, 0, [1, 2]));
    assert.equal(first.kind, Kind.result);
    assert.equal(value(first), 3);
    assert.equal(value(await answer(ID + 1, call(ID + 1, 1, [3, 4, 10]))), 7);
    const failed = await answer(ID + 2, call(ID + 2, 2, ["why"]));
    assert.equal(failed.kind, Kind.error);
    assert.equal(failed.a, errorCodes.handler_failed);
    assert.equal(new TextDecoder().decode(failed.payload), "why");
  });

  it("does not begin a call that nobody waits for any more", async () => {
    const { answer, define } = open();
    define("calls.ts", "note", "notesTaken");
    await answer(ID, call(ID, 1, []));
    const late = await answer(ID + 1, call(ID + 1, 0, ["late"], -5));
    assert.deepEqual([late.kind, late.a], [Kind.error, errorCodes.timeout]);
    const why = new TextDecoder().decode(late.payload);
    assert.equal(why, "calls.ts note was not begun within its deadline");
    await answer(ID + 2, call(ID + 2, 0, ["in time"]));
    assert.deepEqual(value(await answer(ID + 3, call(ID + 3, 1, []))), ["in time"]);
  });

  it("tells of a call that waits for its module, and when it begins", async () => {
    const { answer, define, waits } = open();
    define("calls.ts", "add");
    await answer(ID, call(ID, 0, [1, 2]));
    assert.deepEqual(waits, [
      [ID, 1],
      [ID, 0],
    ]);
    await answer(ID + 1, call(ID + 1, 0, [1, 2]));
    assert.equal(waits.length, 2);
  });

  it("joins the chunks of one message while others come between", async () => {
    const { lua, answer, define } = open();
    define("calls.ts", "add", "note", "notesTaken");
    const args = encode(["x".repeat(3000)]).slice();
    const part = (from: number, to: number) => args.subarray(from, to);
    lua.submit(
      LuaSide.record(Kind.notify, ID, 1, 0, part(0, 1000), { more: true, total: args.length }),
    );
    assert.equal(value(await answer(ID + 1, call(ID + 1, 0, [1, 2]))), 3);
    lua.submit(LuaSide.record(Kind.chunk, ID, 0, 0, part(1000, 2000), { more: true, total: 0 }));
    lua.submit(LuaSide.record(Kind.chunk, ID, 0, 0, part(2000, args.length), { total: 0 }));
    assert.deepEqual(value(await answer(ID + 2, call(ID + 2, 2, []))), ["x".repeat(3000)]);
  });

  it("answers a cancelled call once, and tells its handler", async () => {
    const { lua, answer, define, seen } = open();
    define("calls.ts", "heedsSignal", "howAborted");
    await answer(ID + 1, call(ID + 1, 1, []));
    lua.submit(call(ID, 0, []));
    const error = await answer(ID, LuaSide.record(Kind.cancel, ID, errorCodes.timeout, 0));
    assert.equal(error.kind, Kind.error);
    assert.equal(value(await answer(ID + 2, call(ID + 2, 1, []))), "TimeoutError timeout");
    await sleep(20);
    assert.equal(seen.filter(({ id }) => id === ID).length, 0, "one answer");
    // A cancel of what is not there is nothing.
    lua.submit(LuaSide.record(Kind.cancel, ID + 9, errorCodes.aborted, 0));
    assert.equal(value(await answer(ID + 3, call(ID + 3, 1, []))), "TimeoutError timeout");
  });

  const broken: [string, Uint8Array][] = [
    ["a function that was never defined", call(ID, 7, [])],
    ["a function of a module that was never", LuaSide.record(Kind.function, 0, 0, 5, text("f"))],
    ["a chunk without a beginning", LuaSide.record(Kind.chunk, ID, 0, 0, text("x"))],
    ["a kind that Lua does not send", LuaSide.record(Kind.result, ID, 0, 0, text("x"))],
    [
      "a message that is too large",
      LuaSide.record(Kind.call, ID, 0, 0, text("x"), { more: true, total: 1 << 21 }),
    ],
  ];
  for (const [name, record] of broken) {
    it(`takes ${name} for a protocol error`, () => {
      const { lua, dispatcher } = open();
      lua.submit(record);
      assert.throws(() => dispatcher.drain(), ProtocolError);
    });
  }

  it("takes chunks beyond what was announced for a protocol error", () => {
    const { lua, dispatcher } = open();
    lua.submit(LuaSide.record(Kind.call, ID, 0, 0, text("12"), { more: true, total: 3 }));
    lua.submit(LuaSide.record(Kind.chunk, ID, 0, 0, text("34"), { total: 0 }));
    assert.throws(() => dispatcher.drain(), ProtocolError);
  });
});

describe("modules", () => {
  it("a compiled module has the stack of its source", async () => {
    const { text: code } = await compile(join(MODULES, "calls.ts"));
    assert.match(code, /sourceMappingURL=data:application\/json;base64,/);
    assert.doesNotMatch(code, /: number/);
  });

  it("a name outside of the folder is refused, as are endings that are none", async () => {
    for (const name of ["../values.ts", "lib", "broken/text.txt", "/etc/passwd.mjs"]) {
      await assert.rejects(newLoader().load(name), { code: "module_not_found" }, name);
    }
  });

  it("only own functions are found", async () => {
    const namespace = await newLoader().load("calls.ts");
    assert.equal(typeof findFunction(namespace, "add"), "function");
    assert.equal(typeof findFunction(namespace, "onDefault"), "function");
    for (const name of ["toString", "__proto__", "constructor", "default", "nothing-such"]) {
      assert.throws(() => findFunction(namespace, name), { code: "function_not_found" }, name);
    }
  });
});
