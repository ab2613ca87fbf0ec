/** Where ts.start may be called, and what a call finds that comes without it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Answer } from "../../support/bridge.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { inspect } from "../../support/proc.js";

const recall = content(`t.recall(ngx.var.arg_name)`);

describe("starting", () => {
  test("start in init_worker answers true at once", () =>
    withNginx(
      {
        ts: {},
        initWorker: `t.keep("start", started, start_err, start_code)`,
        locations: { "/recall": recall },
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/recall?name=start"), { value: true });
      },
    ));

  test("a second start is refused and the first goes on", () =>
    withNginx(
      {
        ts: {},
        initWorker: `t.keep("again", ts.start { modules = "/" })`,
        locations: {
          "/recall": recall,
          "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
        },
      },
      async (nginx) => {
        const answer = await nginx.json<Answer>("/recall?name=again");
        assert.equal(answer.code, "already_started");
        assert.match(answer.err ?? "", /already started/);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("start in the master is refused with the place where it belongs, and workers can start", () =>
    withNginx(
      {
        init: `
          local ts = require "resty.ts"
          in_master = { ts.start { modules = "/" } }`,
        ts: {},
        locations: {
          "/master": content(`t.reply(in_master[1], in_master[2], in_master[3])`),
          "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
        },
        allowLog: [/writing a global Lua variable/],
      },
      async (nginx) => {
        const answer = await nginx.json<Answer>("/master");
        assert.equal(answer.value, undefined);
        assert.equal(answer.code, "in_master");
        assert.match(answer.err ?? "", /init_worker_by_lua/);
        assert.equal(inspect(nginx.masterPid).threads.length, 1);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("loading the module in the master and starting in the workers works", () =>
    withNginx(
      {
        init: `require "resty.ts"`,
        ts: {},
        workers: 2,
        locations: { "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`) },
      },
      async (nginx) => {
        for (let i = 0; i < 20; i++) assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("a call before start says what to do, in every way of calling", () =>
    withNginx(
      {
        ts: false,
        locations: {
          "/call": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
          "/sync": content(`t.reply(ts.call_sync(ts.import("calc.ts").add, 100, 1, 2))`),
          "/notify": content(`t.reply(ts.notify(ts.import("calc.ts").add, 1, 2))`),
        },
      },
      async (nginx) => {
        for (const path of ["/call", "/sync", "/notify"]) {
          const answer = await nginx.json<Answer>(path);
          assert.equal(answer.value, undefined, path);
          assert.equal(answer.code, "not_started", path);
          assert.match(answer.err ?? "", /not started.*ts\.start/s, path);
        }
      },
    ));

  test("a call after stop is refused as stopped, and a new start serves again", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/stop": content(`t.reply(ts.stop())`),
          "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
          "/start": content(`t.reply(t.start {})`),
        },
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal((await nginx.json<Answer>("/stop")).err, undefined);
        const refused = await nginx.json<Answer>("/add");
        assert.equal(refused.code, "stopped");
        assert.deepEqual(await nginx.json("/start"), { value: true });
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));
});

describe("options", () => {
  const bad: [string, string, RegExp][] = [
    ["no modules", `{}`, /modules/],
    ["modules of another type", `{ modules = 1 }`, /modules/],
    ["relative modules", `{ modules = "some/folder" }`, /modules/],
    ["a name that there is not", `{ modules = dir, timeout = 5 }`, /timeout/],
    ["a ring that is no power of two", `{ modules = dir, ring_bytes = 100000 }`, /ring_bytes/],
    ["a ring that is too small", `{ modules = dir, ring_bytes = 64 }`, /ring_bytes/],
    ["a negative deadline", `{ modules = dir, timeout_ms = -1 }`, /timeout_ms/],
    ["a deadline that is no number", `{ modules = dir, timeout_ms = "1" }`, /timeout_ms/],
    ["no pending calls", `{ modules = dir, max_pending = 0 }`, /max_pending/],
  ];
  test("a bad option is refused by name, and a good start still works", () =>
    withNginx(
      {
        ts: {},
        beforeStart: `
          local dir = ngx.config.prefix() .. "modules"
          ${bad
            .map(
              ([, options], i) => `
          require("support").keep("bad${String(i)}", require("resty.ts").start ${options})`,
            )
            .join("")}`,
        locations: {
          "/recall": recall,
          "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
        },
      },
      async (nginx) => {
        for (const [i, [what, , name]] of bad.entries()) {
          const answer = await nginx.json<Answer>(`/recall?name=bad${String(i)}`);
          assert.equal(answer.code, "bad_option", what);
          assert.match(answer.err ?? "", name, what);
        }
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));
});
