/** One call, many calls, and what a handler may use: the bridge at its plainest. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilIdle, untilState, type Answer } from "../../support/bridge.js";
import { KeepAlive } from "../../support/clients.js";
import { repeatUntil } from "../../support/deadline.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { inspect, rssOf } from "../../support/proc.js";

const add = content(`
  local calc = ts.import("calc.ts")
  t.reply(calc.add(tonumber(ngx.var.arg_a), tonumber(ngx.var.arg_b)))`);

describe("the bridge in nginx", () => {
  test("a TypeScript function answers a Lua call", () =>
    withNginx({ ts: {}, locations: { "/add": add } }, async (nginx) => {
      assert.deepEqual(await nginx.json("/add?a=1&b=2"), { value: 3 });
    }));

  test("a call made before Node is ready waits and is answered", () =>
    withNginx(
      {
        ts: {},
        initWorker: `
          ngx.timer.at(0, function()
              t.keep("first", ts.import("calc.ts").add(20, 22))
          end)`,
        locations: { "/first": content(`t.recall("first")`), "/add": add },
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/add?a=1&b=2"), { value: 3 });
        await untilIdle(nginx);
        assert.deepEqual(await nginx.json("/first"), { value: 42 });
      },
    ));

  test("an async function answers as a sync one does", () =>
    withNginx(
      {
        ts: {},
        locations: { "/add": content(`t.reply(ts.import("calc.ts").addLater(1, 2))`) },
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("answers that come out of order reach their own callers", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/threads": content(`
            local wait = ts.import("wait.ts")
            local threads, order, wrong = {}, {}, 0
            for i = 1, 50 do
                threads[i] = ngx.thread.spawn(function()
                    local ms = (50 - i) * 4
                    local got = wait.sleep(ms)
                    if got ~= ms then wrong = wrong + 1 end
                    order[#order + 1] = i
                end)
            end
            for i = 1, 50 do ngx.thread.wait(threads[i]) end
            t.json { wrong = wrong, answered = #order, first = order[1] }`),
        },
      },
      async (nginx) => {
        const result = await nginx.json<{ wrong: number; answered: number; first: number }>(
          "/threads",
        );
        assert.equal(result.wrong, 0);
        assert.equal(result.answered, 50);
        assert.notEqual(result.first, 1);
      },
    ));

  test("requests on many connections each get their own answer", () =>
    withNginx({ ts: {}, locations: { "/add": add } }, async (nginx) => {
      const pool = new KeepAlive(nginx.url, 64);
      try {
        const sums = await Promise.all(
          Array.from({ length: 2000 }, async (_, i) =>
            (await pool.ask(`/add?a=${String(i)}&b=1`)).json<Answer<number>>(),
          ),
        );
        sums.forEach((sum, i) => assert.deepEqual(sum, { value: i + 1 }));
      } finally {
        await pool.close();
      }
      const stats = await statsOf(nginx);
      assert.equal(stats.pending, 0);
      assert.ok(stats.calls >= 2000);
      assert.ok(stats.completed >= 2000);
    }));

  test("the event loop answers other requests while a handler burns time", () =>
    withNginx(
      {
        ts: { timeout_ms: 20_000 },
        locations: {
          "/spin": content(`t.reply(ts.import("wait.ts").spin(1500))`),
          "/state": content(`t.json { pending = ts.stats().pending }`),
        },
      },
      async (nginx) => {
        const spinning = nginx.json("/spin");
        let answered = 0;
        await repeatUntil(spinning, async () => {
          const { pending } = await nginx.json<{ pending: number }>("/state");
          if (pending === 1) answered++;
        });
        assert.deepEqual(await spinning, { value: 1500 });
        assert.ok(answered > 10, `only ${String(answered)} answers meanwhile`);
      },
    ));

  test("every worker has an environment of its own", () =>
    withNginx(
      {
        ts: {},
        workers: 2,
        locations: {
          "/about": content(`
            local about = ts.import("env.ts").about()
            t.json { node = about.pid, worker = ngx.worker.pid() }`),
        },
      },
      async (nginx) => {
        const seen = new Set<number>();
        for (let i = 0; i < 400 && seen.size < 2; i++) {
          const { node, worker } = await nginx.json<{ node: number; worker: number }>("/about");
          assert.equal(node, worker);
          seen.add(worker);
        }
        assert.deepEqual([...seen].sort(), nginx.workerPids().sort());
      },
    ));

  test("a handler may fetch from the nginx that it runs in", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/target": `return 200 "from nginx";`,
          "/fetch": content(`
            t.reply(ts.import("env.ts").getText("http://" .. ngx.var.http_host .. "/target"))`),
        },
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/fetch"), { value: "from nginx" });
      },
    ));

  test("importing a module anew for each call costs no memory", () =>
    withNginx(
      {
        ts: { timeout_ms: 60_000 },
        locations: {
          "/many": content(`
            for i = 1, tonumber(ngx.var.arg_n) do
                assert(ts.import("calc.ts").add(i, 1) == i + 1)
            end
            t.json(true)`),
        },
      },
      async (nginx) => {
        await nginx.json("/many?n=20000", { timeoutMs: 60_000 });
        const before = rssOf(nginx.workerPid());
        await nginx.json("/many?n=60000", { timeoutMs: 60_000 });
        const grown = rssOf(nginx.workerPid()) - before;
        assert.ok(grown < 30 << 20, `grew by ${String(grown >> 20)} MiB`);
      },
    ));

  test("the bridge goes on after hundreds of thousands of calls, one after the other", () =>
    withNginx(
      {
        ts: { timeout_ms: 5_000 },
        locations: {
          "/many": content(`
            local calc = ts.import("calc.ts")
            for i = 1, 50000 do
                local sum, err = calc.add(i, 1)
                if sum ~= i + 1 then return t.json { call = i, err = err } end
            end
            t.json(true)`),
        },
      },
      async (nginx) => {
        for (let i = 0; i < 6; i++) {
          assert.equal(await nginx.json("/many", { timeoutMs: 60_000 }), true);
        }
      },
    ));

  test("binary bodies pass in both directions unchanged", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/echo": content(`
            ngx.req.read_body()
            local body, err = ts.import("bytes.ts").echo(ts.bytes(ngx.req.get_body_data() or ""))
            if not body then return t.reply(body, err) end
            ngx.print(body)`),
        },
      },
      async (nginx) => {
        const all = Buffer.from(Array.from({ length: 1024 }, (_, i) => i % 256));
        for (const body of [Buffer.alloc(0), Buffer.from([0]), all]) {
          const reply = await nginx.ask("/echo", { method: "POST", body });
          assert.ok(reply.body.equals(body), `${String(reply.body.length)} bytes came back`);
        }
      },
    ));

  test("what a handler prints stands in nginx's error log with its level", () =>
    withNginx(
      {
        ts: {},
        modules: {
          "talk.ts": `export function talk(): string {
            console.log("said with log");
            console.warn("said with warn");
            console.error("said with error");
            return "talked";
          }`,
        },
        locations: { "/talk": content(`t.reply(ts.import("talk.ts").talk())`) },
        allowLog: [/said with error/],
        logLevel: "info",
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/talk"), { value: "talked" });
        await nginx.waitForLog(/said with log/);
        await nginx.waitForLog(/\[warn\].*said with warn/);
        await nginx.waitForLog(/\[error\].*said with error/);
      },
    ));

  test("the statistics say what runs", () =>
    withNginx({ ts: {}, locations: { "/add": add } }, async (nginx) => {
      await untilState(nginx, "ready");
      const stats = await statsOf(nginx);
      assert.match(String(stats.node_version), /^v?\d+\.\d+\.\d+/);
      assert.equal(typeof stats.abi, "number");
      const worker = inspect(nginx.workerPid());
      assert.ok(worker.threads.length > 1);
      assert.ok(worker.mappings.some((file) => file.includes("libnode")));
    }));
});
