/** HTTP plugins when their environment ends: the next one knows them before anything is asked of it. */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import type { Nginx, NginxOptions } from "../../support/nginx.js";
import { withNginx } from "../../support/nginx.js";
import { content, plainContent } from "../../support/nginx-config.js";
import { ok, phase, plugin } from "../../support/plugin-phases.js";

type Runtime = "embedded" | "process";

const EXIT_MODULE = `
  import { existsSync, writeFileSync } from "node:fs";
  export const exit = () => process.exit(3);
  export const spin = (gate: string) => { console.log("spins"); while (!existsSync(gate)); process.exit(3); };
  export const spinBriefly = (begun: string) => {
    writeFileSync(begun, "");
    for (const end = Date.now() + 20; Date.now() < end;);
    process.exit(3);
  };`;

const EXIT = `
  local _, _, code = ts.import("exit.ts").exit()
  assert(code == "exited", code)`;

const OPEN = `{ onError: "open", onTimeout: "open", onOverload: "open" }`;

/** Ends the environment at the first of two calls. */
const dying = (name: string, idempotent: boolean): string => `
  import { existsSync, unlinkSync } from "node:fs";
  ${plugin(`name: "${name}", idempotent: ${String(idempotent)}, policies: ${OPEN},
    schema: { type: "object", properties: { gate: {} } },
    access(ctx, { conf }) {
      if (!existsSync(conf.gate)) return;
      unlinkSync(conf.gate);
      process.exit(3);
    }`)}`;

const PLUGINS = {
  "plugins/edit.ts": plugin(`name: "edit",
    access(ctx) { ctx.response.headers.set("x-access", "yes"); },
    headerFilter(ctx) { ctx.response.headers.set("x-filter", "yes"); },`),
  "plugins/upper.ts": plugin(`name: "upper", schema: { type: "object" },
    bodyFilter(ctx) { return Buffer.from(ctx.chunk).toString().toUpperCase(); },`),
  "plugins/looker.ts": plugin(`name: "looker",
    bodyFilter(ctx) { ctx.local.set("bytes", ctx.chunk.length); },`),
  "plugins/strict.ts": plugin(`name: "strict", policies: { onOverload: "closed" },
    bodyFilter(ctx) { return Buffer.from(ctx.chunk).toString().toUpperCase(); },`),
  "plugins/late.ts": `
    import { existsSync } from "node:fs";
    import { setTimeout as sleep } from "node:timers/promises";
    ${plugin(`name: "late", schema: { type: "object", properties: { gate: {} } },
      async setup({ gate }) { while (existsSync(gate)) await sleep(5); },
      access(ctx) { ctx.response.headers.set("x-access", "yes"); },`)}`,
  "plugins/asks.ts": plugin(`name: "asks",
    async access(ctx) { await ctx.subrequest("/exit"); ctx.response.headers.set("x-asked", "yes"); },`),
  "plugins/changes.ts": plugin(`name: "changes", idempotent: true, needs: { vars: ["seen"] },
    policies: ${OPEN},
    async access(ctx) {
      ctx.var.set("seen", ctx.vars.seen + "+");
      ctx.request.headers.set("x-a", (ctx.request.headers.get("x-a") ?? "") + "+");
      ctx.request.query.set("q", "changed");
      ctx.request.setBody("changed " + (await ctx.request.text()).length);
    }`),
  "plugins/dies.ts": dying("dies", true),
  "plugins/dies-once.ts": dying("dies-once", false),
  "plugins/streams.ts": `
    import { existsSync } from "node:fs";
    import { setTimeout as sleep } from "node:timers/promises";
    ${plugin(`name: "streams", schema: { type: "object", properties: { gate: {} } },
      content(ctx, { conf }) {
        return new Response(new ReadableStream({
          start(c) { c.enqueue(new TextEncoder().encode("a")); },
          async pull(c) { console.log("streams"); while (!existsSync(conf.gate)) await sleep(5); c.close(); },
        }));
      },`)}`,
};

/** Its environment ends while its content is made; then come its filters. */
const ending = (...filters: string[]): string =>
  `${filters.join("\n")} ${content(`ngx.print("a") ngx.flush(true) ${EXIT} ngx.print("b")`)}`;

/** A handler that changes the request ends well, and the environment under the next one. */
const changing = (route: string): string => `
  set $seen "";
  set $resty_ts_route ${route};
  client_body_buffer_size 1k;
  ${phase("access", `io.open(ngx.config.prefix() .. "gate", "w"):close() http.run()`)}
  ${plainContent(`
    ngx.req.read_body()
    local body, file = ngx.req.get_body_data(), ngx.req.get_body_file()
    body = body or io.open(file):read("*a")
    ngx.print(table.concat({ ngx.var.seen, ngx.var.http_x_a or "", ngx.var.args, body }, "|"))`)}`;

function options(runtime: Runtime): NginxOptions {
  return {
    ts: { runtime, plugins: "plugins" },
    modules: { "exit.ts": EXIT_MODULE },
    files: PLUGINS,
    initWorker: `
      local http, conf = require "resty.ts.http", { gate = ngx.config.prefix() .. "gate" }
      http.route("once", { "changes", { "dies-once", conf } })
      http.route("again", { "changes", { "dies", conf } })`,
    allowLog: [/\[error\]/],
    locations: {
      "= /exit": content(`${EXIT} ngx.print("ended")`),
      "= /spin": content(`t.reply(ts.import("exit.ts").spin(ngx.config.prefix() .. "gate"))`),
      "= /edit":
        phase("access", `http.access("edit")`) +
        phase("header_filter", `http.header_filter("edit")`) +
        ok,
      "= /filter-after-exit":
        phase("header_filter", `http.header_filter("edit")`) + content(`${EXIT} ngx.print("ok")`),
      "= /filter-queued":
        phase("header_filter", `http.header_filter("edit")`) +
        content(`
          local begun = ngx.config.prefix() .. "begun"
          assert(ts.notify(ts.import("exit.ts").spinBriefly, begun))
          while not io.open(begun) do ngx.sleep(0.001) end
          ngx.print("ok")`),
      // Its next environment is not set up while there is the file.
      "= /late":
        phase("access", `http.access("late", { gate = ngx.config.prefix() .. "gate" })`) +
        phase("header_filter", `http.header_filter("late")`) +
        phase("body_filter", `http.body_filter("late")`) +
        content(`io.open(ngx.config.prefix() .. "gate", "w"):close() ${EXIT} ngx.print("ok")`),
      "= /upper": ending(
        phase("header_filter", `http.header_filter("upper")`),
        phase("body_filter", `http.body_filter("upper")`),
      ),
      "= /looker": ending(
        phase("header_filter", `http.header_filter("looker")`),
        phase("body_filter", `http.body_filter("looker")`),
      ),
      "= /strict": ending(
        phase("header_filter", `http.header_filter("strict")`),
        phase("body_filter", `http.body_filter("strict")`),
      ),
      "= /asks": phase("access", `http.access("asks")`) + ok,
      "= /once": changing("once"),
      "= /again": changing("again"),
      "= /streams": phase(
        "content",
        `http.content("streams", { gate = ngx.config.prefix() .. "gate" })`,
      ),
    },
  };
}

for (const runtime of ["embedded", "process"] as const) {
  describe(`HTTP plugins in a new environment, ${runtime}`, () => {
    const withLives = (body: (nginx: Nginx) => Promise<void>): Promise<void> =>
      withNginx(options(runtime), async (nginx) => {
        const { headers } = await nginx.ask("/edit");
        assert.deepEqual([headers["x-access"], headers["x-filter"]], ["yes", "yes"]);
        await body(nginx);
      });

    test("answer the first request after the end, in phases that wait and in those that cannot", () =>
      withLives(async (nginx) => {
        assert.equal((await nginx.ask("/exit")).text, "ended");
        const edits = Array.from({ length: 8 }, () => nginx.ask("/edit"));
        for (const { headers } of await Promise.all(edits)) {
          assert.deepEqual([headers["x-access"], headers["x-filter"]], ["yes", "yes"]);
        }
      }));

    test("answer what was queued for the one before", () =>
      withLives(async (nginx) => {
        const spin = nginx.json<Answer>("/spin");
        await nginx.waitForLog(/spins/);
        const edits = Array.from({ length: 4 }, () => nginx.ask("/edit"));
        await until("all are queued", async () => (await statsOf(nginx)).pending === 5);
        writeFileSync(join(nginx.prefix, "gate"), "");
        assert.equal((await spin).code, "exited");
        for (const { headers } of await Promise.all(edits)) {
          assert.deepEqual([headers["x-access"], headers["x-filter"]], ["yes", "yes"]);
        }
      }));

    test("filter the response in whose handler it ended", () =>
      withLives(async (nginx) => {
        const { headers, text } = await nginx.ask("/filter-after-exit");
        assert.deepEqual([headers["x-filter"], text], ["yes", "ok"]);
      }));

    test("filter the response whose filter was queued, however short the time of a call is", () =>
      withLives(async (nginx) => {
        const { headers, text } = await nginx.ask("/filter-queued");
        assert.deepEqual([headers["x-filter"], text], ["yes", "ok"]);
      }));

    test("do not have nginx wait where they have no filter", () =>
      withLives(async (nginx) => {
        const { headers, body } = await nginx.ask("/late");
        rmSync(join(nginx.prefix, "gate"));
        assert.deepEqual([headers["x-access"], String(body)], ["yes", "ok"]);
        assert.doesNotMatch(nginx.errorLog(), /late, (header|body)_filter/);
      }));

    test("let the rest of a body pass that they no longer know, where their policy is open", () =>
      withLives(async (nginx) => {
        assert.equal((await nginx.ask("/looker")).text, "ab");
        await nginx.waitForLog(/looker, body_filter, .*the environment ended/);
      }));

    test("cut the connection when a part of the body was changed, whatever their policy", () =>
      withLives(async (nginx) => {
        await assert.rejects(nginx.ask("/upper"));
        await nginx.waitForLog(/upper, body_filter, .*the environment ended/);
        await nginx.waitForLog(/the connection is cut, .*a part of the body was changed before/);
      }));

    test("cut the connection where it is closed", () =>
      withLives(async (nginx) => {
        await assert.rejects(nginx.ask("/strict"));
        await nginx.waitForLog(/strict, body_filter, .*the environment ended/);
      }));

    test("refuse a request whose phase asked nginx and has lost its run", () =>
      withLives(async (nginx) => {
        const reply = await nginx.ask("/asks");
        assert.equal(reply.status, 503);
        await nginx.waitForLog(/asks, access, .*the environment ended/);
      }));

    test("leave nothing of a phase in which it ended", () =>
      withLives(async (nginx) => {
        for (const body of ["short", "long ".repeat(1000)]) {
          const { text } = await nginx.ask("/once?q=sent", { method: "POST", body });
          assert.equal(text, `||q=sent|${body}`);
        }
      }));

    test("begin a phase anew where its plugins are idempotent", () =>
      withLives(async (nginx) => {
        const body = "long ".repeat(1000);
        const { text } = await nginx.ask("/again?q=sent", { method: "POST", body });
        assert.equal(text, `+|+|q=changed|changed ${String(body.length)}`);
      }));

    test("break off the streams that were under way", () =>
      withLives(async (nginx) => {
        const stream = nginx.ask("/streams");
        const broken = assert.rejects(stream);
        await until("it streams", () => nginx.errorLog().includes("streams"));
        await nginx.ask("/exit");
        await broken;
        await nginx.waitForLog(/streams, content, .*the answer's stream broke off: .*ended/);
        writeFileSync(join(nginx.prefix, "gate"), "");
      }));
  });
}
