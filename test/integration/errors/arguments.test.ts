/** Arguments that cannot be carried: each a clear error, and nothing sent. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, type Answer } from "../../support/bridge.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

interface Case {
  title: string;
  /** Lua that makes the argument `x`. */
  make: string;
  code: "bad_argument" | "too_large";
  says: RegExp[];
}

const cases: Case[] = [
  {
    title: "a function",
    make: "local x = function() end",
    code: "bad_argument",
    says: [/function/],
  },
  {
    title: "a coroutine",
    make: "local x = coroutine.create(function() end)",
    code: "bad_argument",
    says: [/thread|coroutine/],
  },
  {
    title: "a cdata that is no 64-bit integer",
    make: `local x = require("ffi").new("struct { int a; }")`,
    code: "bad_argument",
    says: [/cdata/],
  },
  { title: "a userdata", make: "local x = io.stdout", code: "bad_argument", says: [/userdata/] },
  {
    title: "a function deep inside, with the way to it",
    make: "local x = { outer = { 1, { inner = print } } }",
    code: "bad_argument",
    says: [/function/, /outer/, /inner/],
  },
  {
    title: "a table as a key",
    make: "local x = { [{}] = 1 }",
    code: "bad_argument",
    says: [/key/],
  },
  {
    title: "1,000 levels",
    make: "local x = 1; for _ = 1, 1000 do x = { x } end",
    code: "bad_argument",
    says: [/deep/],
  },
  {
    title: "a table that holds itself",
    make: "local x = {}; x.x = x",
    code: "bad_argument",
    says: [/deep|cycl/],
  },
  {
    title: "a string that is not UTF-8",
    make: `local x = "caf\\xE9"`,
    code: "bad_argument",
    says: [/UTF-8/i, /ts\.bytes/],
  },
  {
    title: "a key that is not UTF-8",
    make: `local x = { ["caf\\xE9"] = 1 }`,
    code: "bad_argument",
    says: [/UTF-8/i],
  },
  {
    title: "a message past max_message_bytes",
    make: `local x = string.rep("x", 2 * 1024 * 1024)`,
    code: "too_large",
    says: [/max_message_bytes/],
  },
  {
    title: "many arguments past max_message_bytes together",
    make: `local s = string.rep("x", 64 * 1024); local x = {}; for i = 1, 32 do x[i] = s end`,
    code: "too_large",
    says: [/max_message_bytes/],
  },
];

const WAYS: Record<string, string> = {
  call: "f(x)",
  call_sync: "ts.call_sync(f, 1000, x)",
  notify: "ts.notify(f, x)",
};

describe("arguments", () => {
  test("what cannot be carried is refused in words in every way of calling, and nothing is sent", async (t) => {
    const locations: Record<string, string> = {
      "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
    };
    cases.forEach(({ make }, i) => {
      for (const [way, expression] of Object.entries(WAYS)) {
        locations[`= /${way}/${String(i)}`] = content(`
          ${make}
          local f = ts.import("calc.ts").echo
          t.reply(${expression})`);
      }
    });
    await withNginx({ ts: { max_message_bytes: 1 << 20 }, locations }, async (nginx) => {
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
      for (const [i, { title, code, says }] of cases.entries()) {
        await t.test(`${title} is ${code}`, async () => {
          for (const way of Object.keys(WAYS)) {
            const before = await statsOf(nginx);
            const answer = await nginx.json<Answer>(`/${way}/${String(i)}`);
            assert.equal(answer.value, undefined, way);
            assert.equal(answer.code, code, `${way}: ${answer.err ?? ""}`);
            for (const words of says) assert.match(answer.err ?? "", words, way);
            const after = await statsOf(nginx);
            assert.equal(after.pending, 0, way);
            assert.equal(after.completed, before.completed, way);
            assert.deepEqual(await nginx.json("/add"), { value: 3 });
          }
        });
      }
    });
  });

  test("a refused call leaves no part of its message behind in the ring", () =>
    withNginx(
      {
        ts: { ring_bytes: 65536 },
        locations: {
          "/mixed": content(`
            local f = ts.import("calc.ts").echo
            local wrong = 0
            for i = 1, 500 do
                local bad = { string.rep("x", i * 7), { print } }
                local got, err, code = f(bad)
                if got ~= nil or code ~= "bad_argument" then wrong = wrong + 1 end
                if f("good " .. i) ~= "good " .. i then wrong = wrong + 1 end
            end
            t.json(wrong)`),
        },
      },
      async (nginx) => {
        assert.equal(await nginx.json("/mixed"), 0);
      },
    ));

  test("max_message_bytes holds where the ring has room for more", () =>
    withNginx(
      {
        ts: { max_message_bytes: 65536, ring_bytes: 1 << 20 },
        locations: {
          "/x": content(`t.reply(ts.import("bytes.ts").length(string.rep("x", ngx.var.arg_n)))`),
        },
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/x?n=65000"), { value: 65000 });
        assert.equal((await nginx.json<Answer>("/x?n=66000")).code, "too_large");
        assert.deepEqual(await nginx.json("/x?n=65000"), { value: 65000 });
      },
    ));

  test("a caller's mistake about the function is an error of its own line", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": content(`
            local bad = { 1, "calc.add", {}, function() end }
            local results = {}
            for i = 1, #bad do
                local ok, a, _, code = pcall(ts.call, bad[i], {})
                results[i] = (not ok and "raised") or (a == nil and code) or "called"
            end
            t.json(results)`),
          "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
        },
      },
      async (nginx) => {
        for (const result of await nginx.json<string[]>("/x")) {
          assert.match(result, /^(raised|bad_argument)$/);
        }
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));
});
