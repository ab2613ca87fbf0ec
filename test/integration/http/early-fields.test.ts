/**
 * Response fields that are set before there is a response, or declared, beside what nginx itself does
 * with responses; and how often the host is called for them.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { statsOf } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { Nginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { ok, phase, plugin, route } from "../../support/plugin-phases.js";
import { RawUpstream, rawAsk, rawRequest, respond } from "../../support/raw.js";

const ALLOW = "access-control-allow-origin";
const PLUGINS = {
  "plugins/early.ts": plugin(`name: "early", access(ctx) {
    ctx.response.headers.set("${ALLOW}", "own");
    ctx.response.headers.set("content-type", "text/x-own");
    ctx.response.headers.set("last-modified", "Thu, 01 Jan 2015 00:00:00 GMT");
  }`),
  "plugins/declares.ts": plugin(
    `name: "declares", responseHeaders: () => ({ "${ALLOW}": "declared", etag: null })`,
  ),
  "plugins/changes.ts": plugin(`name: "changes", responseHeaders: () => ({ "${ALLOW}": "older" })`),
  "plugins/wrong.ts": plugin(`name: "wrong", responseHeaders: () => ({ "content-length": "5" })`),
};
const EARLY_FIELDS = [ALLOW, "content-type", "last-modified"];

for (const runtime of ["embedded", "process"] as const) {
  describe(`early and declared response fields, ${runtime}`, () => {
    let upstream: RawUpstream;
    let nginx: Nginx;
    before(async () => {
      upstream = await RawUpstream.start(() =>
        respond(
          "x",
          ...["Access-Control-Allow-Origin: *", 'ETag: "its"', "Content-Type: text/x-its"],
          ...["Last-Modified: Thu, 01 Jan 1970 00:00:00 GMT", "Cache-Control: max-age=60"],
        ),
      );
      const proxy = `proxy_pass ${upstream.url};`;
      const access = phase("access", `http.access("early")`);
      const log = phase("log", `http.log("early")`);
      nginx = await Nginx.start({
        ts: { runtime, plugins: "plugins" },
        initWorker: `
            require("resty.ts.http").route("early", { "early" })
            require("resty.ts.http").route("declares", { "declares" })
            require("resty.ts.http").route("changes", { "changes" })
            require("resty.ts.http").route("wrong", { "wrong" })`,
        http: `proxy_cache_path cache keys_zone=cache:1m;`,
        locations: {
          "/early": route("early") + proxy,
          "/declared": route("declares") + proxy,
          "/wrong": route("wrong") + proxy,
          "/cached": `proxy_cache cache; proxy_cache_valid 1h; ${route("early")} ${proxy}`,
          "/down": `${route("early")} proxy_pass http://127.0.0.1:1;`,
          "/file/": route("early"),
          "/lua":
            route("early") +
            `content_by_lua_block {
              ngx.header["Access-Control-Allow-Origin"] = "lua"
              ngx.header["Content-Type"] = "text/x-lua"
              ngx.print("x")
            }`,
          "/page": `error_page 502 = /fallback; ${route("early")} proxy_pass http://127.0.0.1:1;`,
          "/fallback": ok,
          "/unfiltered": access + log + proxy,
          "/own-alone": access + log + ok,
          "/reloads": `${route("changes")} ${content(`
            local path = ngx.config.prefix() .. "plugins/changes.ts"
            local file = assert(io.open(path))
            local source = file:read("*a"):gsub("older", "newer")
            file:close()
            file = assert(io.open(path, "w"))
            file:write(source)
            file:close()
            assert(ts.reload())
            ngx.print("x")`)}`,
          // Until the worker waits before it starts the next one.
          "/ended": `${route("declares")} ${content(`
            local code
            for _ = 1, 100 do
                code = select(3, ts.import("exit.ts").exit())
                if code == "unavailable" then break end
            end
            assert(code == "unavailable", code)
            ngx.print("x")`)}`,
        },
        modules: { "exit.ts": "export const exit = () => process.exit(3);" },
        files: { ...PLUGINS, "html/file/page.txt": "text" },
        allowLog: [
          /resty\.ts/,
          /Connection refused/,
          /crash loop/,
          /environment ended/,
          /content-length is nginx's/,
        ],
      });
    });
    after(async () => {
      await nginx.stop();
      await upstream.stop();
    });

    /** The values of these fields that the client gets. */
    async function got(path: string, names = EARLY_FIELDS): Promise<string[][]> {
      const bytes = rawRequest(`GET ${path}`, { fields: ["Connection: close"] });
      const [head = ""] = (await rawAsk(nginx.port!, bytes)).split("\r\n\r\n", 1);
      const lines = head.split("\r\n").map((line) => line.split(/: (.*)/s, 2));
      return names.map((name) =>
        lines.filter(([key]) => key!.toLowerCase() === name).map(([, value]) => value!),
      );
    }
    const OWN = [["own"], ["text/x-own"], ["Thu, 01 Jan 2015 00:00:00 GMT"]];
    const calls = async (): Promise<number> => (await statsOf(nginx)).calls;

    test("what is set is in place of the upstream's", async () => {
      assert.deepEqual(await got("/early"), OWN);
    });

    test("it is in place of a cached response's", async () => {
      const { length } = upstream.seen;
      for (let i = 0; i < 2; i++) assert.deepEqual(await got("/cached"), OWN);
      assert.equal(upstream.seen.length, length + 1);
    });

    test("it is on nginx's own error page, but for what describes another body", async () => {
      assert.deepEqual(await got("/down"), [["own"], ["text/html"], []]);
    });

    test("it is in the response of a file", async () => {
      assert.deepEqual(await got("/file/page.txt"), OWN);
    });

    test("what Lua code sets after it counts", async () => {
      assert.deepEqual((await got("/lua")).slice(0, 2), [["lua"], ["text/x-lua"]]);
    });

    test("it stays, as anything of nginx's does, after an internal redirect", async () => {
      assert.deepEqual(await got("/page", [ALLOW]), [["own"]]);
    });

    test("without header_filter_by_lua* the upstream's is sent, too, and the log says so", async () => {
      assert.deepEqual(await got("/unfiltered", [ALLOW]), [["own", "*"]]);
      await until("the log says so", () =>
        /early, log, .*are sent as they came: [-a-z, ]*access-control-allow-origin[-a-z, ]* \(run/.test(
          nginx.errorLog(),
        ),
      );
    });

    test("that is nothing to tell where the upstream sends none", async () => {
      const told = (): number => nginx.errorLog().split("are sent as they came").length;
      const before = told();
      assert.deepEqual(await got("/own-alone", [ALLOW]), [["own"]]);
      await got("/unfiltered", [ALLOW]);
      await until("the later one is told of", () => told() > before);
      assert.equal(told(), before + 1);
    });

    test("a call for what access sets, and none for what is declared", async () => {
      await got("/declared", [ALLOW]); // once for the configuration
      for (const [path, expected, each] of [
        ["/early", "own", 1],
        ["/declared", "declared", 0],
      ] as const) {
        const before = await calls();
        for (let i = 0; i < 5; i++) assert.deepEqual(await got(path, [ALLOW]), [[expected]]);
        assert.equal(await calls(), before + 5 * each, path);
      }
    });

    test("a declared field is deleted, too", async () => {
      assert.deepEqual(await got("/declared", [ALLOW, "etag"]), [["declared"], []]);
    });

    test("declared fields are those of the version that the request began with", async () => {
      for (const expected of ["older", "newer"]) {
        assert.deepEqual(await got("/reloads", [ALLOW]), [[expected]]);
      }
    });

    test("what is refused of it is told, and the request is not let through", async () => {
      const { length } = upstream.seen;
      const reply = await nginx.ask("/wrong");
      assert.equal(reply.status, 500);
      assert.equal(reply.headers["content-type"], "application/problem+json");
      assert.equal(upstream.seen.length, length);
      await nginx.waitForLog(/wrong: responseHeaders failed: content-length is nginx's/);
    });

    test("declared fields are sent while there is no environment", async () => {
      await got("/declared", [ALLOW]);
      assert.deepEqual(await got("/ended", [ALLOW]), [["declared"]]);
    });
  });
}
