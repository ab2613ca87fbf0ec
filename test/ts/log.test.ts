/** Log lines on their way to Lua. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Channel } from "../../src/host/channel.ts";
import { Logger } from "../../src/host/log.ts";
import { Kind } from "../../src/host/wire.ts";
import { until } from "../support/deadline.ts";
import { LuaSide, newNative } from "./lua-side.ts";

test("lines that find no room are counted, and Lua is told how many, though no other follows", async () => {
  const native = newNative(65536);
  const channel = new Channel(native);
  const lua = new LuaSide(native);
  const logger = new Logger(channel, 1 << 20);
  const LINES = 20_000;
  for (let i = 0; i < LINES; i++) logger.write("notice", `line ${i}`);
  let read = 0;
  const dropped = await until("the count comes", () => {
    channel.drain(() => undefined);
    for (const { kind, id } of lua.take()) {
      assert.equal(kind, Kind.log);
      if (id > 0) return id;
      read++;
    }
    return undefined;
  });
  assert.ok(read > 1000, `${read} were read`);
  assert.equal(read + dropped, LINES);
});
