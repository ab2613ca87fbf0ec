/** What APISIX does with a request beyond its phases: other nodes, consumers, responses that go. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Apisix } from "../../support/apisix.js";
import { hookConf, withHooks } from "../../support/apisix-hooks.js";
import { type TypescriptOptions, withTypescript } from "../../support/apisix-plugins.js";
import type { Seen } from "../../support/gateway.js";
import { findPort } from "../../support/nginx.js";

describe("a request that goes to another node", () => {
  it("has gone through beforeProxy once", () =>
    withTypescript(
      {
        typescript: {
          proxied: `
            export default definePlugin({
              name: "proxied",
              async beforeProxy(ctx) {
                await ctx.var.get("route_id");
                ctx.request.headers.append("x-proxied", "once");
              },
            });`,
        },
        allowLog: [/connect\(\) failed/],
      },
      async (a) => {
        const nodes = {
          [`127.0.0.1:${String(await findPort())}`]: 1,
          [`127.0.0.1:${String(a.upstream.port)}`]: 1,
        };
        const upstream = { type: "roundrobin", nodes };
        await a.change({ routes: [{ uri: "/a", plugins: { proxied: {} }, upstream }] });
        // The nodes take turns: half of these go to the one where nobody is first.
        for (let i = 0; i < 4; i++) {
          const reply = await a.ask("/a");
          assert.equal(reply.status, 200, reply.text);
          assert.equal(reply.json<Seen>().headers["x-proxied"], "once");
        }
        assert.match(a.errorLog(), /connect\(\) failed/);
      },
    ));
});

describe("response fields that are in place of the upstream's", () => {
  const NAME = "access-control-allow-origin";
  const set = (name: string, phase: string): string => `
    export default definePlugin({
      name: "${name}",
      ${phase}(ctx) { ctx.response.headers.set("${NAME}", "${name}"); },
    });`;
  const declares = (name: string): string => `
    export default definePlugin({
      name: "${name}",
      responseHeaders: () => ({ "${NAME}": "${name}", "x-powered-by": null }),
    });`;
  /** What the client gets of this field, by path. */
  const gets = async (a: Apisix, expected: Record<string, string>): Promise<void> => {
    for (const [path, value] of Object.entries(expected)) {
      a.upstream.on(path, (_request, response) => {
        response.setHeader(NAME, "*").setHeader("x-powered-by", "its").end("x");
      });
      const { status, headers } = await a.ask(path);
      assert.deepEqual([status, headers[NAME]], [200, value], path);
    }
  };

  it("are set before it, or declared, by plugins with no handler of the response's", () =>
    withTypescript(
      {
        typescript: {
          early: set("early", "rewrite"),
          latest: set("latest", "beforeProxy"),
          declares: declares("declares"),
        },
        routes: [
          { uri: "/early", plugins: { early: {} } },
          { uri: "/latest", plugins: { early: {}, latest: {} } },
          { uri: "/declares", plugins: { early: {}, declares: {} } },
        ],
      },
      async (a) => {
        await gets(a, { "/early": "early", "/latest": "latest", "/declares": "declares" });
        assert.equal((await a.ask("/declares")).headers["x-powered-by"], undefined);
      },
    ));

  it("are those of the plugins of hooks, too", () =>
    withHooks(
      { early: set("early", "access"), declares: declares("declares") },
      {
        routes: [
          { uri: "/pre", plugins: hookConf("pre-req", [["early", {}]]) },
          { uri: "/post", plugins: hookConf("post-req", [["early", {}]]) },
          { uri: "/resp", plugins: hookConf("post-resp", [["declares", {}]]) },
        ],
      },
      (a) => gets(a, { "/pre": "early", "/post": "early", "/resp": "declares" }),
    ));
});

describe("a plugin of type auth", () => {
  /** Finds the consumer in its rewrite, and tells in each phase which configuration it has. */
  const gate = `
    const tell = (ctx, phase, conf) =>
      ctx.response.headers.append("x-steps", phase + " " + JSON.stringify(conf));
    export default definePlugin({
      name: "gate", priority: 2500,
      schema: Type.Object({ header: Type.String() }, { additionalProperties: false }),
      apisix: { type: "auth", consumerSchema: Type.Object({ key: Type.String() }) },
      async rewrite(ctx, { conf }) {
        const key = ctx.request.headers.get(conf.header) ?? "";
        const consumer = await ctx.apisix.findConsumer("key", key);
        if (consumer === null) return ctx.exit(401);
        ctx.response.headers.append("x-credentials", JSON.stringify(consumer.conf));
        ctx.apisix.attachConsumer(consumer);
      },
      access: (ctx, { conf }) => tell(ctx, "access", conf),
      beforeProxy: (ctx, { conf }) => tell(ctx, "beforeProxy", conf),
      headerFilter: (ctx, { conf }) => tell(ctx, "headerFilter", conf),
      bodyFilter: (ctx, { conf }) => Buffer.from(ctx.last ? JSON.stringify(conf) : ""),
      log: (ctx, { conf }) => ctx.log.warn("log has " + JSON.stringify(conf)),
    });`;
  /** Has no rewrite, so that it begins once the consumer is known. */
  const second = `
    export default definePlugin({
      name: "second", priority: 2400,
      schema: Type.Object({ code: Type.String() }, { additionalProperties: false }),
      apisix: { type: "auth", consumerSchema: Type.Object({ secret: Type.String() }) },
      access(ctx, { conf }) {
        if (ctx.request.headers.get("x-code") !== conf.code) return ctx.exit(403);
      },
    });`;
  const options: TypescriptOptions = {
    typescript: { gate, second },
    consumers: [
      { username: "jack", plugins: { gate: { key: "jacks" }, second: { secret: "jacks" } } },
    ],
    routes: [
      { id: "1", uri: "/a", plugins: { gate: { header: "x-key" } } },
      {
        id: "2",
        uri: "/both",
        plugins: { gate: { header: "x-key" }, second: { code: "open" } },
      },
    ],
  };
  const ask = (a: Apisix, path: string, headers = {}) =>
    a.ask(path, { headers: { "x-key": "jacks", ...headers } });

  it("has its route's configuration in all phases, and the consumer's from findConsumer alone", () =>
    withTypescript(options, async (a) => {
      const { status, headers, text } = await ask(a, "/a");
      assert.equal(status, 200, text);
      const conf = '{"header":"x-key"}';
      assert.equal(
        headers["x-steps"],
        ["access", "beforeProxy", "headerFilter"].map((phase) => `${phase} ${conf}`).join(", "),
      );
      assert.equal(text, conf);
      await a.untilLog(/log has \{"header":"x-key"\}/);
      assert.equal(headers["x-credentials"], '{"key":"jacks"}');
    }));

  it("that a global rule has, too, keeps each one's own", () =>
    withTypescript(
      {
        ...options,
        globalRules: [{ id: "g", plugins: { gate: { header: "x-global" } } }],
      },
      async (a) => {
        const { status, headers, text } = await ask(a, "/a", { "x-global": "jacks" });
        assert.equal(status, 200, text);
        assert.equal(
          headers["x-steps"],
          ["access", "beforeProxy", "headerFilter"]
            .flatMap((phase) => ["x-global", "x-key"].map((of) => `${phase} {"header":"${of}"}`))
            .join(", "),
        );
      },
    ));

  it("that begins once another one has found the consumer has its route's, too", () =>
    withTypescript(options, async (a) => {
      assert.equal((await ask(a, "/both", { "x-code": "open" })).status, 200);
      assert.equal((await ask(a, "/both")).status, 403);
    }));

  it("that the consumer has and the route has not does not run", () =>
    withTypescript(options, async (a) => {
      assert.equal((await ask(a, "/a", { "x-code": "any" })).status, 200);
      assert.doesNotMatch(a.errorLog(), /resty\.ts: second/);
    }));

  it("without a rewrite handler cannot stand for one: the request fails in words", () =>
    withTypescript(
      {
        ...options,
        plugins: ["tries"],
        lua: { tries: TRIES },
        routes: [{ uri: "/a", plugins: { tries: { plugin: "second", conf: { code: "open" } } } }],
        allowLog: [/second has no rewrite handler/],
      },
      async (a) => {
        assert.equal((await ask(a, "/a", { "x-code": "open" })).status, 500);
        await a.untilLog(/second has no rewrite handler/);
        assert.deepEqual(a.upstream.seen, []);
      },
    ));
});

/** Runs another plugin's rewrite with a configuration of its own, as multi-auth does. */
const TRIES = `
local plugin = require "apisix.plugin"
local _M = { version = 0.1, priority = 2600, name = "tries", schema = { type = "object" } }
function _M.check_schema()
    return true
end
function _M.rewrite(conf, ctx)
    return plugin.get(conf.plugin).rewrite(conf.conf, ctx)
end
return _M
`;

describe("a response that ts-plugin-post-resp puts a 503 in the place of", () => {
  const replaced = (
    fields: Record<string, string | string[]>,
    allowLog: RegExp[],
    body: (a: Apisix) => Promise<void>,
  ): Promise<void> =>
    withHooks(
      {
        throws: `export default definePlugin({
          name: "throws", headerFilter() { throw new Error("out of luck"); } });`,
      },
      {
        plugins: ["marks"],
        lua: { marks: MARKS },
        routes: [{ uri: "/a", plugins: { marks: {}, ...hookConf("post-resp", [["throws", {}]]) } }],
        allowLog: [/out of luck/, ...allowLog],
      },
      async (a) => {
        a.upstream.on("/a", (_request, response) => {
          for (const [name, value] of Object.entries(fields)) response.setHeader(name, value);
          response.end("a secret");
        });
        await body(a);
      },
    );

  it("leaves none of the upstream's header fields, and those of the gateway", () =>
    replaced(
      {
        "set-cookie": ["session=1", "user=2"],
        "X-Secret": "yes",
        x_secret: "yes",
        "www-authenticate": "Secret",
        "x.odd!name": "yes",
        "x-empty": "",
        "content-type": "application/secret",
        "content-language": "en",
        location: "/secret",
        etag: '"secret"',
        vary: "cookie",
      },
      [],
      async (a) => {
        const { status, headers, text } = await a.ask("/a");
        assert.equal(status, 503);
        assert.doesNotMatch(text, /secret/);
        assert.equal(headers["content-type"], "application/problem+json");
        assert.equal(headers["content-length"], String(text.length));
        assert.equal(headers["x-mark"], "the gateway's");
        assert.match(headers.server ?? "", /^APISIX/);
        const ours = ["connection", "content-length", "content-type", "date", "server", "x-mark"];
        assert.deepEqual(
          Object.keys(headers).filter((name) => !ours.includes(name)),
          [],
        );
      },
    ));
});

const MARKS = `
local _M = { version = 0.1, priority = 1, name = "marks", schema = { type = "object" } }
function _M.check_schema()
    return true
end
function _M.header_filter()
    ngx.header["X-Mark"] = "the gateway's"
end
return _M
`;
