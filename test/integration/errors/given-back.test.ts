/** A call whose arguments cannot be encoded keeps nothing: no slot, and no worker that exits. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { statsOf, type Answer } from "../../support/bridge.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

const CASES: Record<string, string> = {
  "600 MiB": `local x = ("x"):rep(600 * 1048576)`,
  "twice 600 MiB": `local x = ("x"):rep(600 * 1048576); x = { x, x }`,
  "no memory for what does not fit into the ring": `
    local native = require "resty.ts.native"
    local allocate = native.allocate
    function native.allocate()
        native.allocate = allocate
        error("not enough memory")
    end
    local x = {}
    for i = 1, 40000 do
        x[i] = ("x"):rep(100)
    end`,
  // As many elements as its length is, but not the same ones.
  "a table whose __index throws": `
    local x = setmetatable({ nil, 2, other = 1 }, { __index = function() error("thrown") end })`,
  "a table whose __index yields": `
    local x = setmetatable({ nil, 2, other = 1 }, { __index = function() ngx.sleep(0.001) end })`,
};

const take = `ts.import("calc.ts").echo`;
const pathOf = (name: string): string => `/${name.replaceAll(" ", "-")}`;

for (const runtime of ["embedded", "process"]) {
  test(`${runtime}: nothing is kept of a call that cannot be encoded`, async (t) => {
    await withNginx(
      {
        ts: { runtime, max_message_bytes: 1024 * 1048576, timeout_ms: 60_000 },
        allowLog: [/Cannot create a string longer/],
        locations: {
          "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
          ...Object.fromEntries(
            Object.entries(CASES).map(([name, make]) => [
              pathOf(name),
              content(`
                ${make}
                local results = { pcall(${take}, x) }
                x = nil
                collectgarbage()
                local ok, value, err, code = results[1], results[2], results[3], results[4]
                t.json({ err = not ok and tostring(value) or err, code = code })`),
            ]),
          ),
          "/notify": content(`
            t.reply(pcall(ts.notify, ts.import("calc.ts").add, { ("x"):rep(600 * 1048576),
                                                                 ("y"):rep(600 * 1048576) }))`),
        },
      },
      async (nginx) => {
        for (const name of Object.keys(CASES)) {
          await t.test(name, async () => {
            const { err, code } = await nginx.json<Answer>(pathOf(name));
            assert.ok(err, "it is refused");
            if (name.includes("__index")) assert.equal(code, "bad_argument");
            assert.equal((await statsOf(nginx)).pending, 0);
            assert.equal((await nginx.json<Answer>("/add")).value, 3);
          });
        }
        await nginx.json("/notify");
        assert.equal((await statsOf(nginx)).pending, 0);
        assert.equal((await nginx.quit(5000)).code, 0);
      },
    );
  });
}
