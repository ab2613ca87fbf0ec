/**
 * Decisions hold in what surrounds a chain, too: routes, chains that are replaced or not there,
 * environments that end, and what Lua keeps in ngx.ctx.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import type { ServerResponse } from "node:http";
import { join } from "node:path";
import { describe, test } from "node:test";
import { SignJWT } from "jose";
import { withNginx } from "../../support/nginx.js";
import { content, plainContent } from "../../support/nginx-config.js";
import { ANY_CONF, ok, phase, plugin, route } from "../../support/plugin-phases.js";
import { withPlugins } from "../../support/plugins.js";
import { PROJECT_ROOT } from "../../support/project.js";
import { withUpstream } from "../../support/upstream.js";

const marks = (name: string): string =>
  plugin(`name: "${name}", ${ANY_CONF}
    bodyFilter: (ctx) => ctx.chunk.length === 0 ? undefined : "[" + Buffer.from(ctx.chunk).toString() + "]"`);

describe("$resty_ts_route", () => {
  const filters = `
    header_filter_by_lua_block { require("resty.ts.http").run() }
    body_filter_by_lua_block { require("resty.ts.http").run() }`;

  test("that is misspelt or names no route is closed and logged; off runs nothing", () =>
    withPlugins(
      { guard: plugin(`name: "guard", access: (ctx) => ctx.exit(401)`) },
      {
        initWorker: `require("resty.ts.http").route("api", { "guard" })`,
        locations: {
          "= /api": route("api") + ok,
          "= /misspelt": route("api").replace("$resty_ts_route", "$resty_ts_rout") + ok,
          "= /unknown": route("apy") + ok,
          "= /off": route("off") + ok,
          "= /jump": `set $resty_ts_route off;
            ${phase("rewrite", `http.run() ngx.req.set_uri("/api", true)`)} ${ok}`,
          "= /filters": `set $resty_ts_route apy; ${filters} ${ok}`,
          "= /own-page": `set $resty_ts_route apy; ${filters} return 404;`,
        },
        allowLog: [/\$resty_ts_route, /, /the connection is cut/],
      },
      async (nginx) => {
        const statusOf = async (path: string) => (await nginx.ask(path)).status;
        assert.equal(await statusOf("/api"), 401);
        assert.equal(await statusOf("/misspelt"), 500);
        assert.equal(await statusOf("/unknown"), 500);
        assert.equal(await statusOf("/off"), 200);
        assert.equal(await statusOf("/jump"), 401);
        await assert.rejects(nginx.ask("/filters"), /other side closed/);
        assert.equal(await statusOf("/own-page"), 404);
        assert.match(nginx.errorLog(), /\$resty_ts_route, rewrite, .*: it has no value/);
        assert.match(nginx.errorLog(), /\$resty_ts_route, rewrite, .*: there is no route apy/);
      },
    ));
});

for (const [title, buffered] of [
  ["piece by piece", ""],
  ["buffered", "bufferResponse: { maxBytes: 1000 },"],
] as const) {
  test(`a response is filtered by the chain that it began with, ${title}`, () =>
    withUpstream((upstream, port) =>
      withPlugins(
        {
          first: marks("first").replace(ANY_CONF, `${ANY_CONF} ${buffered}`),
          second: plugin(`name: "second", bodyFilter: () => "another"`),
        },
        {
          initWorker: `require("resty.ts.http").route("api", { "first" })`,
          locations: {
            "= /x": `set $resty_ts_route api;
              ${phase("header_filter", "http.run()")}
              ${phase("body_filter", `ngx.log(ngx.NOTICE, "a piece came") http.run()`)}
              proxy_buffering off; proxy_pass http://127.0.0.1:${port};`,
            "= /replace": plainContent(
              `require("resty.ts.http").route("api", { "second" }) ngx.print("replaced")`,
            ),
          },
        },
        async (nginx) => {
          const reply = nginx.ask("/x");
          const [, response] = (await once(upstream, "request")) as [unknown, ServerResponse];
          response.write("FIRST-HALF");
          await nginx.waitForLog(/a piece came/);
          assert.equal((await nginx.ask("/replace")).text, "replaced");
          response.end(" second-half");
          const { text } = await reply;
          assert.equal(text.replaceAll("][", ""), "[FIRST-HALF second-half]");
        },
      ),
    ));
}

for (const runtime of ["embedded", "process"] as const) {
  test(`a body is not let pass when its environment ends and the next setup fails, ${runtime}`, () =>
    withNginx(
      {
        ts: { runtime, plugins: "plugins" },
        files: {
          "plugins/redact.ts": `
            import { existsSync } from "node:fs";
            import { fileURLToPath } from "node:url";
            const ended = fileURLToPath(new URL("../ended", import.meta.url));
            ${plugin(`name: "redact",
              policies: { onError: "closed", onTimeout: "closed", onOverload: "closed" },
              setup() { if (existsSync(ended)) throw new Error("no luck"); },
              bodyFilter: (ctx) => Buffer.from(ctx.chunk).toString().replaceAll("secret", "***")`)}`,
        },
        modules: { "exit.ts": `export const exit = () => process.exit(3);` },
        locations: {
          "= /x": `${phase("header_filter", `http.header_filter("redact")`)}
            ${phase("body_filter", `http.body_filter("redact")`)}
            ${content(`
              ngx.print("public ") ngx.flush(true)
              io.open(ngx.config.prefix() .. "ended", "w"):close()
              ts.import("exit.ts").exit()
              ngx.print("secret")`)}`,
          "= /begun": `${phase("header_filter", `http.header_filter("redact")`)}
            ${phase("body_filter", `http.body_filter("redact")`)} ${ok}`,
        },
        allowLog: [/redact/, /the connection is cut/, /exit/i, /resty\.ts/],
      },
      async (nginx) => {
        assert.equal((await nginx.ask("/begun")).text, "ok");
        await assert.rejects(nginx.ask("/x"));
        // A location that has filters alone, while no setup succeeds.
        await assert.rejects(nginx.ask("/begun"));
      },
    ));
}

describe("ngx.ctx", () => {
  const looks = plugin(`name: "looks",
    needs: { ctx: ["user", "fn", "bytes", "plain"] },
    access(ctx) {
      const { user } = ctx.ctx;
      ctx.response.headers.set("x-seen", JSON.stringify([user.name, Object.keys(ctx.ctx).sort()]));
      ctx.ctx.plain.list.push(2);
    }`);

  test("keeps what Lua keeps there, and what cannot be carried is absent, with a line each", () =>
    withPlugins(
      { looks },
      {
        locations: {
          "= /x":
            phase(
              "access",
              `
              local user = setmetatable({ name = "ada" }, { __index = { greet = function() return "hi" end } })
              ngx.ctx.user, ngx.ctx.fn, ngx.ctx.bytes = user, function() end, "\\255"
              ngx.ctx.plain, ngx.ctx.same = { list = { 1 } }, user
              http.access("looks")`,
            ) +
            plainContent(
              `ngx.print(tostring(ngx.ctx.user == ngx.ctx.same), ngx.ctx.user:greet(), type(ngx.ctx.fn),
                 #ngx.ctx.bytes, #ngx.ctx.plain.list)`,
            ),
        },
        allowLog: [/ngx\.ctx\.(fn|bytes) is not passed to plugins/],
      },
      async (nginx) => {
        const { headers, text } = await nginx.ask("/x");
        assert.equal(headers["x-seen"], '["ada",["plain","user"]]');
        assert.equal(text, "truehifunction12");
        const lines = nginx.errorLog().match(/ngx\.ctx\.\w+ is not passed to plugins/g) ?? [];
        assert.equal(lines.length, 2);
      },
    ));
});

test("a configuration that Lua changes in place is another one", () =>
  withPlugins(
    {
      tells: plugin(`name: "tells", ${ANY_CONF}
        access: (ctx, { conf }) => ctx.exit(200, JSON.stringify(conf.list))`),
    },
    {
      initWorker: `conf = { list = { 1 } }`,
      locations: {
        "= /x": phase("access", `http.access("tells", conf)`),
        "= /change": plainContent(`conf.list[#conf.list + 1] = 0 ngx.print("changed")`),
      },
    },
    async (nginx) => {
      for (let i = 0; i < 3; i++) assert.equal((await nginx.ask("/x")).text, "[1]");
      await nginx.ask("/change");
      assert.equal((await nginx.ask("/x")).text, "[1,0]");
    },
  ));

test("the shipped jwt-auth and rate-limit count a subject that is no UTF-8", async () => {
  const secret = "a secret of the tests, long enough for HS256";
  const token = await new SignJWT({ sub: "\ud800" })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(secret));
  await withNginx(
    {
      ts: { plugins: join(PROJECT_ROOT, "examples/plugins") },
      http: "lua_shared_dict rate_limit 1m;",
      initWorker: `require("resty.ts.http").route("api", {
        { "jwt-auth", { secret = "${secret}" } },
        { "rate-limit", { limit = 1, windowSeconds = 86400 }, on_error = "open" } })`,
      locations: { "= /x": route("api") + ok },
      allowLog: [/jwt-auth|rate-limit/],
    },
    async (nginx) => {
      const statuses: number[] = [];
      for (let i = 0; i < 3; i++) {
        const { status } = await nginx.ask("/x", { headers: { authorization: `Bearer ${token}` } });
        statuses.push(status);
      }
      assert.deepEqual(statuses, [200, 429, 429]);
    },
  );
});
