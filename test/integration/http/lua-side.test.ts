/** The Lua half of HTTP plugins: what crosses when, how long configurations live, how workers exit. */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { describe, test } from "node:test";
import { isDeepStrictEqual } from "node:util";
import { until } from "../../support/deadline.js";
import type { Nginx, NginxOptions } from "../../support/nginx.js";
import { content, plainContent } from "../../support/nginx-config.js";
import { ANY_CONF, ok, phase, plugin, route } from "../../support/plugin-phases.js";
import { keptOf, untilNothingKept, withPlugins } from "../../support/plugins.js";
import { withUpstream } from "../../support/upstream.js";

/** Tells, as a response field, how often it was set up and which configuration it has. */
const counted = plugin(`
  name: "counted", ${ANY_CONF}
  setup() { globalThis.setups = (globalThis.setups ?? 0) + 1; },
  teardown() { console.log("torn down"); },
  access(ctx, { conf }) {
    ctx.response.headers.set("x-conf", JSON.stringify(conf));
    ctx.response.headers.set("x-setups", String(globalThis.setups));
  },
`);

/** More than sync_timeout_ms. */
const SLOW_SETUP = `async setup() { await new Promise((done) => setTimeout(done, 300)); },`;

/** Of calls: that requests have ended is told of many at once. */
async function crossings(nginx: Nginx, action: () => Promise<unknown>): Promise<number> {
  const calls = async () => (await nginx.json<{ calls: number }>("/_stats")).calls;
  const before = await calls();
  await action();
  return (await calls()) - before;
}

describe("crossings", () => {
  const chainOptions: NginxOptions = {
    initWorker: `
      local http = require "resty.ts.http"
      http.route("both", { "early", "late" })
      http.route("early", { "early" })`,
    locations: {
      "= /both": route("both") + ok,
      "= /early": route("early") + ok,
      "= /off": route("off") + ok,
      "= /kept": content(`
        local n = 0
        for _ in pairs(ts.internal.client().kept) do n = n + 1 end
        t.json(n)`),
    },
  };
  const plugins = {
    early: plugin(`name: "early", access(ctx) { ctx.response.headers.set("x-early", "1"); }`),
    late: plugin(
      `name: "late", access() {}, headerFilter(ctx) { ctx.response.headers.set("x-late", "1"); }`,
    ),
  };

  test("a phase costs one call, whatever the number of plugins; one without a handler none", () =>
    withPlugins(plugins, chainOptions, async (nginx) => {
      await nginx.ask("/both");
      // Once for each file the host asks that its compiled form be kept, and that is answered.
      await until("both are kept", async () => (await nginx.json("/kept")) === 2);
      for (const [path, calls] of [
        ["/both", 2],
        ["/early", 1],
        ["/off", 0],
      ] as const) {
        await nginx.ask(path);
        assert.equal(await crossings(nginx, () => nginx.ask(path)), calls, path);
      }
      const reply = await nginx.ask("/both");
      assert.equal(reply.headers["x-early"], "1");
      assert.equal(reply.headers["x-late"], "1");
    }));
});

describe("configurations", () => {
  test("one that is given inline is set up once, each other one once more", () =>
    withPlugins(
      { counted },
      {
        locations: {
          "= /one": phase("access", `http.access("counted", { a = 1, list = { 1, 2 } })`) + ok,
          "= /two": phase("access", `http.access("counted", { a = 2 })`) + ok,
          "= /empty": phase("access", `http.access("counted")`) + ok,
        },
      },
      async (nginx) => {
        const seen: unknown[] = [];
        for (const path of ["/one", "/one", "/two", "/one", "/empty", "/two", "/empty"]) {
          const { headers } = await nginx.ask(path);
          seen.push([JSON.parse(String(headers["x-conf"])), headers["x-setups"]]);
        }
        const one = { a: 1, list: [1, 2] };
        const two = { a: 2 };
        assert.deepEqual(seen, [
          [one, "1"],
          [one, "1"],
          [two, "2"],
          [one, "2"],
          [{}, "3"],
          [two, "3"],
          [{}, "3"],
        ]);
      },
    ));

  test("a later phase has the configuration of an earlier one", () =>
    withPlugins(
      {
        both: plugin(`
          name: "both", ${ANY_CONF}
          access() {},
          headerFilter(ctx, { conf }) { ctx.response.headers.set("x-conf", conf.name ?? "none"); }`),
      },
      {
        locations: {
          "= /x": `${phase("access", `http.access("both", { name = "mine" })`)}
                   ${phase("header_filter", `http.header_filter("both")`)} ${ok}`,
          "= /y": phase("header_filter", `http.header_filter("both")`) + ok,
        },
      },
      async (nginx) => {
        assert.equal((await nginx.ask("/x")).headers["x-conf"], "mine");
        assert.equal((await nginx.ask("/y")).headers["x-conf"], "none");
      },
    ));

  test("the thousand inline configurations used last are kept, older ones torn down", () =>
    withPlugins(
      { counted },
      {
        locations: {
          "= /many":
            phase("access", `for n = 1, 1005 do http.access("counted", { n = n }) end`) + ok,
        },
      },
      async (nginx) => {
        await nginx.ask("/many");
        // The engine forgets a chain first, then it is torn down, then that is in the log.
        await until("five are gone", () => nginx.errorLog().match(/torn down/g)?.length === 5);
        assert.equal((await keptOf(nginx)).chains, 1000);
      },
    ));

  test("one that falls out while a request has it is set up again for it", () =>
    withPlugins(
      {
        both: plugin(`
          name: "both", ${ANY_CONF}
          access() {},
          headerFilter(ctx, { conf }) { ctx.response.headers.set("x-conf", String(conf.n)); }`),
        other: plugin(`name: "other", ${ANY_CONF} access() {}`),
      },
      {
        locations: {
          "= /x": `
            ${phase(
              "access",
              `http.access("both", { n = 0 })
               for n = 1, 1005 do http.access("other", { n = n }) end`,
            )}
            ${phase("header_filter", `http.header_filter("both")`)} ${ok}`,
        },
      },
      async (nginx) => {
        assert.equal((await nginx.ask("/x")).headers["x-conf"], "0");
        await until("a thousand are kept", async () => (await keptOf(nginx)).chains === 1000);
      },
    ));

  test("requests that come while Node starts share one set-up", () =>
    withPlugins(
      { counted },
      { locations: { "= /x": phase("access", `http.access("counted", { a = 1 })`) + ok } },
      async (nginx) => {
        const replies = await Promise.all(Array.from({ length: 30 }, () => nginx.ask("/x")));
        for (const { status, headers } of replies) {
          assert.deepEqual([status, headers["x-setups"]], [200, "1"]);
        }
      },
    ));

  test("filters and log handlers wait for a set-up that takes its time", () =>
    withPlugins(
      {
        filter: plugin(`
          name: "filter", ${SLOW_SETUP}
          headerFilter(ctx) { ctx.response.headers.set("x-filter", "1"); }`),
        logger: plugin(`
          name: "logger", ${SLOW_SETUP}
          log(ctx) { console.log("logged", ctx.request.path); }`),
      },
      {
        locations: {
          "= /x": phase("header_filter", `http.header_filter("filter")`) + ok,
          "= /y": phase("log", `http.log("logger")`) + ok,
        },
      },
      async (nginx) => {
        assert.equal((await nginx.ask("/y")).text, "ok");
        await nginx.waitForLog(/logged \/y/);
        assert.equal((await nginx.ask("/x")).headers["x-filter"], "1");
      },
    ));

  test("a set-up that does not end holds a filter up once", () =>
    withPlugins(
      {
        stuck: plugin(`name: "stuck", setup: () => new Promise(() => {}), headerFilter() {}`),
      },
      {
        locations: { "= /x": phase("header_filter", `http.header_filter("stuck")`) + ok },
        allowLog: [/resty-ts:http (?:configure|close) did not answer within \d+ ms/],
      },
      async (nginx) => {
        // What its plugins say of filters is not known.
        for (let i = 0; i < 2; i++) await assert.rejects(nginx.ask("/x"), /other side closed/);
        const waits = [...nginx.errorLog().matchAll(/configure did not answer within (\d+) ms/g)];
        assert.deepEqual(
          waits.map(([, ms]) => ms),
          ["2000", "1"],
        );
      },
    ));

  test("chain:close() tears down; the chain cannot be used then", () =>
    withPlugins(
      { counted },
      {
        initWorker: `closing = require("resty.ts.http").chain { { "counted", { n = 1 } } }`,
        locations: {
          "= /x": phase("access", "closing:access()") + ok,
          "= /close": `${phase("access", "closing:access()")}
            ${phase("header_filter", "closing:header_filter()")} ${phase("log", "closing:log()")}
            ${plainContent(`closing:close() closing:close() ngx.print("closed")`)}`,
        },
        allowLog: [/this chain was closed/],
      },
      async (nginx) => {
        assert.equal((await nginx.ask("/x")).headers["x-conf"], `{"n":1}`);
        assert.equal((await nginx.ask("/close")).text, "closed");
        await nginx.waitForLog(/torn down/);
        assert.equal((await keptOf(nginx)).chains, 0);
        assert.equal((await nginx.ask("/x")).status, 500);
      },
    ));

  test("a runtime that was started anew gets its configurations again", () =>
    withPlugins(
      { counted },
      {
        locations: {
          "= /x": phase("access", `http.access("counted", { n = 1 })`) + ok,
          "= /restart": plainContent(`
            local ts, prefix = require "resty.ts", ngx.config.prefix()
            assert(ts.stop())
            ngx.sleep(0) -- the waiter sees it
            assert(ts.start { plugins = prefix .. "plugins", runtime_dir = prefix .. "tmp" })
            ngx.print("ok")`),
        },
      },
      async (nginx) => {
        assert.equal((await nginx.ask("/x")).headers["x-setups"], "1");
        assert.equal((await nginx.ask("/restart")).text, "ok");
        assert.equal((await nginx.ask("/x")).headers["x-setups"], "1");
      },
    ));
});

describe("shared dictionaries", () => {
  const counting = plugin(`
    name: "counting",
    async setup(conf, { shared }) { await shared("kept").incr("setup", 1, 0); },
    access(ctx) {
      ctx.waitUntil((async () => {
        await new Promise((done) => setTimeout(done, 20));
        const kept = ctx.shared("kept");
        await Promise.all(Array.from({ length: 200 }, () => kept.incr("background", 1, 0)));
        await ctx.shared("missing").get("x").catch((error) => kept.set("error", error.message));
      })());
    },
    async log(ctx) { await ctx.shared("kept").set("bytes", "\\u00e9".repeat(100_000)); },
  `);

  test("are there at any time: in setup, in the background, in log handlers", () =>
    withPlugins(
      { counting },
      {
        initWorker: `require("resty.ts.http").route("counting", { "counting" })`,
        locations: {
          "= /x": route("counting") + ok,
          "= /kept": plainContent(`
            local kept = ngx.shared.kept
            ngx.print(require("cjson").encode {
                setup = kept:get("setup"), background = kept:get("background"),
                error = kept:get("error"), bytes = #(kept:get("bytes") or "") })`),
        },
      },
      async (nginx) => {
        await nginx.ask("/x");
        const want = {
          setup: 1,
          background: 200,
          error:
            "there is no shared dictionary missing: declare it with " +
            "lua_shared_dict missing in nginx's http block",
          bytes: 200_000,
        };
        let seen: unknown;
        await until(
          "all of it is there",
          async () => isDeepStrictEqual((seen = await nginx.json("/kept")), want),
          10_000,
          () => JSON.stringify(seen),
        );
      },
    ));
});

test("a subrequest may be answered by nginx itself, without a body", () =>
  withPlugins(
    {
      asking: plugin(`
        name: "asking",
        async content(ctx) {
          const answers = [];
          for (const uri of ["/204", "/404", "/text"]) {
            const { status, body } = await ctx.subrequest(uri);
            answers.push([status, new TextDecoder().decode(body)]);
          }
          return Response.json(answers);
        }`),
    },
    {
      locations: {
        "= /x": phase("content", `http.content("asking")`),
        "= /204": "return 204;",
        "= /404": plainContent("ngx.exit(404)"),
        "= /text": `return 200 "text";`,
      },
    },
    async (nginx) => {
      const [none, missing, text] = await nginx.json<[number, string][]>("/x");
      assert.deepEqual(none, [204, ""]);
      assert.equal(missing?.[0], 404);
      assert.deepEqual(text, [200, "text"]);
    },
  ));

describe("the upstream's address", () => {
  test("comes from a plugin; without one the request fails in words", () =>
    withPlugins(
      {
        chooser: plugin(`
          name: "chooser",
          access(ctx) {
            const port = ctx.request.query.get("port");
            if (port !== null) ctx.setUpstream("127.0.0.1", Number(port));
          }`),
      },
      {
        http: `upstream chosen {
          server 0.0.0.1;
          balancer_by_lua_block { require("resty.ts.http").balancer() }
        }`,
        locations: {
          "= /x": `${phase("access", `http.access("chooser")`)} proxy_pass http://chosen/target;`,
          "= /target": plainContent(`ngx.print("reached")`),
        },
        allowLog: [/no plugin has set an upstream's address/],
      },
      async (nginx) => {
        assert.equal((await nginx.ask(`/x?port=${String(nginx.port)}`)).text, "reached");
        assert.equal((await nginx.ask("/x")).status, 500);
        assert.match(nginx.errorLog(), /no plugin has set an upstream's address/);
      },
    ));
});

describe("an exiting worker", () => {
  const ending = plugin(`
    name: "ending",
    setup: () => ({ requests: 0 }),
    access(ctx, { state }) {
      state.requests++;
      ctx.waitUntil(new Promise((done) => setTimeout(done, 100)).then(() => console.log("waited")));
    },
    log(ctx, { state }) { console.log("logged", ctx.request.path, state.requests); },
    async teardown() {
      await new Promise((done) => setTimeout(done, 50));
      console.log("torn down");
    },
  `);

  test("sends its log entries, then waits for waitUntil and teardown", () =>
    withPlugins(
      { ending },
      {
        initWorker: `require("resty.ts.http").route("ending", { "ending" })`,
        locations: { "= /x": route("ending") + ok },
      },
      async (nginx) => {
        await nginx.ask("/x");
        await nginx.quit();
        const log = nginx.errorLog();
        const order = [...log.matchAll(/logged \/x 1|waited|torn down/g)].map(String);
        assert.deepEqual(order, ["logged /x 1", "waited", "torn down"]);
      },
    ));

  test("lets the requests in flight end before the plugins do", () =>
    withUpstream((upstream, port) =>
      withPlugins(
        { ending },
        {
          initWorker: `require("resty.ts.http").route("ending", { "ending" })`,
          locations: {
            "= /x": `${route("ending")} proxy_pass http://127.0.0.1:${String(port)};`,
          },
        },
        async (nginx) => {
          const reply = nginx.ask("/x");
          const [, response] = (await once(upstream, "request")) as [unknown, ServerResponse];
          const ended = nginx.quit();
          await nginx.waitForLog(/gracefully shutting down/);
          response.end("late");
          assert.equal((await reply).text, "late");
          await ended;
          assert.match(nginx.errorLog(), /logged \/x 1[^]*torn down/);
        },
      ),
    ));
});

test("nothing is kept when requests have ended", () =>
  withPlugins(
    {
      keeper: plugin(`
        name: "keeper",
        async access(ctx) {
          ctx.local.set("a", 1);
          await ctx.var.get("request_time");
          return new Response(ctx.request.query.get("stream") ? new ReadableStream({
            start(c) { c.enqueue(new Uint8Array(10)); setTimeout(() => c.close(), 30); },
          }) : "short");
        },
        log(ctx) { if (!ctx.local.has("a")) console.error("the log handler came too late"); }`),
    },
    {
      initWorker: `require("resty.ts.http").route("keeper", { "keeper" })`,
      locations: { "= /x": route("keeper") + ok },
    },
    async (nginx) => {
      await Promise.all(
        Array.from({ length: 20 }, (_, i) => nginx.ask(i % 2 === 0 ? "/x" : "/x?stream=1")),
      );
      await untilNothingKept(nginx);
    },
  ));
