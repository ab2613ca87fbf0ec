/** Calls in every phase of nginx: where they may yield, and where they may not. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { untilIdle, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx } from "../../support/nginx.js";
import { content, luaPhase } from "../../support/nginx-config.js";

const recall = content(`t.recall(ngx.var.arg_name)`);

function kept(nginx: Nginx, name: string): Promise<Answer> {
  return until(`${name} was kept`, () => nginx.json<Answer | null>(`/recall?name=${name}`));
}

describe("phases that can yield", () => {
  for (const phase of ["rewrite", "access", "content"]) {
    test(`a call in ${phase} waits for its answer`, () =>
      withNginx(
        {
          ts: {},
          locations: {
            "/x":
              phase === "content"
                ? content(`t.reply(ts.import("calc.ts").addLater(1, 2))`)
                : `${luaPhase(phase, `ngx.ctx.sum = { ts.import("calc.ts").addLater(1, 2) }`)}
                   ${content(`t.reply(unpack(ngx.ctx.sum, 1, 3))`)}`,
          },
        },
        async (nginx) => {
          assert.deepEqual(await nginx.json("/x"), { value: 3 });
        },
      ));
  }

  test("a call in a timer waits for its answer", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": content(`
            ngx.timer.at(0, function()
                t.keep("timer", ts.import("calc.ts").addLater(1, 2))
            end)
            t.json(true)`),
          "/recall": recall,
        },
      },
      async (nginx) => {
        await nginx.json("/x");
        assert.deepEqual(await kept(nginx, "timer"), { value: 3 });
      },
    ));

  test("a call in a coroutine of the request waits for its answer", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": content(`
            local wrapped = coroutine.wrap(function()
                return ts.import("calc.ts").addLater(1, 2)
            end)
            t.reply(wrapped())`),
        },
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/x"), { value: 3 });
      },
    ));

  test("a call in a subrequest waits for its answer", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/outer": content(`
            local a, b = ngx.location.capture_multi { { "/inner" }, { "/inner" } }
            ngx.print(a.body, b.body)`),
          "/inner": content(`ngx.print(ts.import("calc.ts").addLater(1, 2))`),
        },
      },
      async (nginx) => {
        assert.equal((await nginx.ask("/outer")).text, "33");
      },
    ));

  test("all phases of one request call in turn, under many requests", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": `
            ${luaPhase("rewrite", `ngx.ctx.n = ts.import("calc.ts").add(0, 1)`)}
            ${luaPhase("access", `ngx.ctx.n = ts.import("calc.ts").addLater(ngx.ctx.n, 1)`)}
            ${content(`ngx.print(ts.import("calc.ts").add(ngx.ctx.n, 1))`)}
            ${luaPhase("header_filter", `ngx.header.x_sum = ts.call_sync(ts.import("calc.ts").add, 5000, ngx.ctx.n, 2)`)}`,
        },
      },
      async (nginx) => {
        const replies = await Promise.all(Array.from({ length: 100 }, () => nginx.ask("/x")));
        for (const reply of replies) {
          assert.equal(reply.text, "3");
          assert.equal(reply.headers["x-sum"], "4");
        }
      },
    ));
});

describe("phases that cannot yield", () => {
  const sync = (a: number, b: number): string =>
    `ts.call_sync(ts.import("calc.ts").add, 5000, ${String(a)}, ${String(b)})`;

  test("a synchronous call in set answers in place", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": `
            set_by_lua_block $sum {
              local ts = require "resty.ts"
              return (${sync(1, 2)})
            }
            return 200 "$sum";`,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        assert.equal((await nginx.ask("/x")).text, "3");
      },
    ));

  test("a synchronous call in header_filter edits a response header in place", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": `
            ${luaPhase("header_filter", `ngx.header.x_sum = ${sync(1, 2)}`)}
            return 200 "body";`,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const reply = await nginx.ask("/x");
        assert.equal(reply.headers["x-sum"], "3");
        assert.equal(reply.text, "body");
      },
    ));

  test("a synchronous call in body_filter replaces the body", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": `
            ${luaPhase("header_filter", `ngx.header.content_length = nil`)}
            ${luaPhase(
              "body_filter",
              `
              if ngx.arg[1] ~= "" then ngx.arg[1] = tostring(${sync(40, 2)}) end`,
            )}
            return 200 "body";`,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        assert.equal((await nginx.ask("/x")).text, "42");
      },
    ));

  test("a synchronous call in log has its answer", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": `${luaPhase("log", `t.keep("log", ${sync(1, 2)})`)} return 200 "body";`,
          "/recall": recall,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        await nginx.ask("/x");
        assert.deepEqual(await kept(nginx, "log"), { value: 3 });
      },
    ));

  test("a synchronous call in balancer chooses the upstream", () =>
    withNginx(
      {
        ts: {},
        modules: {
          "pick.ts": `export function pick(port: string): { host: string; port: number } {
            return { host: "127.0.0.1", port: Number(port) };
          }`,
        },
        http: `upstream chosen {
          server 0.0.0.1;
          ${luaPhase(
            "balancer",
            `
            local peer, err = ts.call_sync(ts.import("pick.ts").pick, 5000, ngx.var.server_port)
            if not peer then
                ngx.log(ngx.ERR, "pick: ", err)
                return ngx.exit(500)
            end
            require("ngx.balancer").set_current_peer(peer.host, peer.port)`,
          )}
        }`,
        locations: {
          "/x": `proxy_pass http://chosen/target;`,
          "/target": `return 200 "chosen";`,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        assert.equal((await nginx.ask("/x")).text, "chosen");
      },
    ));

  test("a synchronous call waits for an async handler too", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": `
            ${luaPhase(
              "header_filter",
              `
              ngx.header.x_sum = ts.call_sync(ts.import("calc.ts").addLater, 5000, 1, 2)`,
            )}
            return 200 "body";`,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        assert.equal((await nginx.ask("/x")).headers["x-sum"], "3");
      },
    ));

  test("a synchronous call past its deadline answers timeout, and the late answer harms nobody", () =>
    withNginx(
      {
        ts: { sync_timeout_ms: 30 },
        locations: {
          "/x": `
            ${luaPhase(
              "header_filter",
              `
              local _, err, code = ts.call_sync(ts.import("wait.ts").sleep, nil, 300)
              ngx.header.x_code = code
              ngx.header.x_err = err`,
            )}
            return 200 "body";`,
          "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const reply = await nginx.ask("/x");
        assert.equal(reply.headers["x-code"], "timeout");
        assert.match(String(reply.headers["x-err"]), /^timeout/);
        await untilIdle(nginx);
        for (let i = 0; i < 20; i++) assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("a synchronous call meets the answers of waiting calls and delivers them", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/wait": content(`t.reply(ts.import("wait.ts").sleep(100))`),
          "/sync": content(`
            t.reply(ts.call_sync(ts.import("wait.ts").sleep, 5000, 400))`),
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const waiting = Array.from({ length: 10 }, () => nginx.json("/wait"));
        const sync = nginx.json("/sync");
        for (const answer of await Promise.all(waiting)) assert.deepEqual(answer, { value: 100 });
        assert.deepEqual(await sync, { value: 400 });
      },
    ));

  const refusing: [string, string][] = [
    ["set", `set_by_lua_block $nothing { %s return "" } return 200 "body";`],
    ["header_filter", `header_filter_by_lua_block { %s } return 200 "body";`],
    ["body_filter", `body_filter_by_lua_block { %s } return 200 "body";`],
    ["log", `log_by_lua_block { %s } return 200 "body";`],
  ];
  for (const [phase, block] of refusing) {
    test(`a yielding call in ${phase} is refused in words, and nothing is written`, () =>
      withNginx(
        {
          ts: {},
          locations: {
            "/x": block.replace(
              "%s",
              `local ts, t = require "resty.ts", require "support"
               local before = ts.stats().calls
               t.keep("${phase}", ts.import("counter.ts").bump(1))
               t.keep("${phase}_calls", ts.stats().calls - before)`,
            ),
            "/value": content(`t.reply(ts.import("counter.ts").value())`),
            "/recall": recall,
          },
        },
        async (nginx) => {
          await untilState(nginx, "ready");
          assert.equal((await nginx.ask("/x")).text, "body");
          const answer = await kept(nginx, phase);
          assert.equal(answer.code, "wrong_phase");
          assert.match(answer.err ?? "", /cannot wait in this phase/);
          assert.match(answer.err ?? "", new RegExp(phase), "the phase is named");
          assert.match(answer.err ?? "", /call_sync|notify/, "the cure is named");
          assert.deepEqual(await kept(nginx, `${phase}_calls`), { value: 0 });
          assert.deepEqual(await nginx.json("/value"), { value: 0 });
        },
      ));
  }

  test("a yielding call in init_worker is refused in words", () =>
    withNginx(
      {
        ts: {},
        initWorker: `t.keep("init", ts.import("calc.ts").add(1, 2))`,
        locations: { "/recall": recall },
      },
      async (nginx) => {
        assert.equal((await kept(nginx, "init")).code, "wrong_phase");
      },
    ));
});

describe("notifications", () => {
  for (const phase of ["rewrite", "access", "header_filter", "body_filter", "log"]) {
    test(`notify in ${phase} reaches the handler and waits for nothing`, () =>
      withNginx(
        {
          ts: {},
          locations: {
            "/x": `
              ${luaPhase(
                phase,
                `
                if not ngx.ctx.told then
                    ngx.ctx.told = true
                    t.keep("told", ts.notify(ts.import("counter.ts").bump, 2))
                end`,
              )}
              ${content(`ngx.print("body")`)}`,
            "/value": content(`t.reply(ts.import("counter.ts").value())`),
            "/recall": recall,
          },
        },
        async (nginx) => {
          for (let i = 0; i < 10; i++) assert.equal((await nginx.ask("/x")).text, "body");
          assert.deepEqual(await kept(nginx, "told"), { value: true });
          await until("the handler has counted all", async () => {
            return (await nginx.json<Answer>("/value")).value === 20;
          });
          await untilIdle(nginx);
        },
      ));
  }

  test("notify in init_worker reaches the handler once Node is ready", () =>
    withNginx(
      {
        ts: {},
        initWorker: `t.keep("told", ts.notify(ts.import("counter.ts").bump, 7))`,
        locations: {
          "/value": content(`t.reply(ts.import("counter.ts").value())`),
          "/recall": recall,
        },
      },
      async (nginx) => {
        assert.deepEqual(await kept(nginx, "told"), { value: true });
        assert.deepEqual(await nginx.json("/value"), { value: 7 });
      },
    ));
});
