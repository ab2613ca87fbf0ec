/**
 * The hooks: what APISIX's external plugins can do, ts-plugin-pre-req, -post-req and -post-resp can,
 * with the same configuration.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Apisix } from "../../support/apisix.js";
import { hookConf, hookRoute, rewrites, withHooks } from "../../support/apisix-hooks.js";
import { until } from "../../support/deadline.js";
import { type Seen, Upstream } from "../../support/gateway.js";

for (const hook of ["pre-req", "post-req"] as const) {
  describe(`ts-plugin-${hook}, the request`, () => {
    /** What the upstream saw when the plugin's rewrite was this code. */
    const upstreamSees = async (
      code: string,
      path: string,
      request: Parameters<Apisix["ask"]>[1],
      check: (seen: Seen) => void,
    ): Promise<void> =>
      withHooks(
        { edit: rewrites("edit", code) },
        { routes: [hookRoute("/*", hook, [["edit", {}]])] },
        async (a) => {
          const reply = await a.ask(path, request);
          assert.equal(reply.status, 200, reply.text);
          check(reply.json<Seen>());
        },
      );

    it("its header fields are set, added and deleted", () =>
      upstreamSees(
        `request.headers.set("x-set", "new");
         request.headers.append("x-more", "two");
         request.headers.delete("x-gone");`,
        "/a",
        { headers: { "x-set": "old", "x-more": "one", "x-gone": "here" } },
        ({ headers }) => {
          assert.equal(headers["x-set"], "new");
          assert.equal(headers["x-more"], "one, two");
          assert.equal("x-gone" in headers, false);
        },
      ));

    it("its arguments are set, added and deleted", () =>
      upstreamSees(
        `const [path, query] = request.uri.split("?");
         const kept = query.split("&").filter((argument) => !argument.startsWith("gone="));
         const changed = kept.map((argument) => argument.replace("set=old", "set=new"));
         request.uri = path + "?" + [...changed, "more=two"].join("&");`,
        "/a?set=old&more=one&gone=1&kept=%2F&alone",
        {},
        ({ url }) => assert.equal(url, "/a?set=new&more=one&kept=%2F&alone&more=two"),
      ));

    it("its query is changed, and the other arguments and the path are as they were", () =>
      upstreamSees(
        `request.query.set("set", "new"); request.query.delete("gone");`,
        "/a%2Fb?set=old&gone=1&kept=%2F+&alone",
        {},
        ({ url }) => assert.equal(url, "/a%2Fb?set=new&kept=%2F+&alone"),
      ));

    it("its path is set, decoded, and the query stays", () =>
      upstreamSees(`request.path = "/b c";`, "/a?x=%2F", {}, ({ url }) =>
        assert.equal(url, "/b%20c?x=%2F"),
      ));

    it("its path is set, with escapes", () =>
      upstreamSees(`request.uri = "/b%2Fc/d%20e" + request.url.search;`, "/a?x=1", {}, ({ url }) =>
        assert.equal(url, "/b%2Fc/d%20e?x=1"),
      ));

    it("its body is read and replaced", () =>
      upstreamSees(
        `request.setBody((await request.text()).toUpperCase());`,
        "/a",
        { method: "POST", body: "hello" },
        ({ body, headers }) => {
          assert.equal(body, "HELLO");
          assert.equal(headers["content-length"], "5");
        },
      ));

    it("method, address, id and variables are known", () =>
      upstreamSees(
        `const id = await ctx.var.get("route_id");
         request.headers.set("x-seen", [request.method, request.remoteAddress, id].join(" "));`,
        "/a",
        { method: "PUT", body: "x" },
        ({ headers }) => assert.equal(headers["x-seen"], "PUT 127.0.0.1 1"),
      ));
  });

  describe(`ts-plugin-${hook}, the answer`, () => {
    it("a plugin stops the request with a status, header fields and a body", () =>
      withHooks(
        {
          stop: rewrites(
            "stop",
            `ctx.response.headers.set("x-why", "because");
             return ctx.exit(403, { no: conf.word });`,
          ),
        },
        { routes: [hookRoute("/a", hook, [["stop", { word: "entry" }]])] },
        async (a) => {
          const { status, headers, text } = await a.ask("/a");
          assert.equal(status, 403);
          assert.equal(headers["x-why"], "because");
          assert.deepEqual(JSON.parse(text), { no: "entry" });
          assert.deepEqual(a.upstream.seen, []);
        },
      ));

    it("fields that are set before the upstream are in its answer, too", () =>
      withHooks(
        { mark: rewrites("mark", `ctx.response.headers.set("x-mark", conf.word);`) },
        { routes: [hookRoute("/a", hook, [["mark", { word: "here" }]])] },
        async (a) => assert.equal((await a.ask("/a")).headers["x-mark"], "here"),
      ));

    it("plugins run in the list's order, rewrite and access of each before the next", () =>
      withHooks(
        Object.fromEntries(
          ["one", "two"].map((name) => [
            name,
            `export default definePlugin({
               name: "${name}", priority: ${name === "one" ? 1 : 9},
               rewrite(ctx) { ctx.request.headers.append("x-order", "${name} rewrite"); },
               access(ctx) { ctx.request.headers.append("x-order", "${name} access"); },
             });`,
          ]),
        ),
        {
          routes: [
            hookRoute("/a", hook, [
              ["one", {}],
              ["two", {}],
            ]),
          ],
        },
        async (a) => {
          const { headers } = (await a.ask("/a")).json<Seen>();
          assert.equal(headers["x-order"], "one rewrite, one access, two rewrite, two access");
        },
      ));

    it("one that answers ends the list", () =>
      withHooks(
        {
          stop: rewrites("stop", `return ctx.exit(204);`),
          after: rewrites("after", `ctx.log.warn("ran all the same");`),
        },
        {
          routes: [
            hookRoute("/a", hook, [
              ["stop", {}],
              ["after", {}],
            ]),
          ],
        },
        async (a) => {
          assert.equal((await a.ask("/a")).status, 204);
          assert.doesNotMatch(a.errorLog(), /ran all the same/);
        },
      ));
  });

  describe(`ts-plugin-${hook}, what goes wrong`, () => {
    const failing = (
      title: string,
      conf: [string, unknown],
      log: RegExp,
      sources: Record<string, string> = {},
    ): void => {
      it(`${title}: 503, and the error log says so`, () =>
        withHooks(
          sources,
          { routes: [hookRoute("/a", hook, [conf])], allowLog: [log] },
          async (a) => {
            assert.equal((await a.ask("/a")).status, 503);
            await a.untilLog(log);
            assert.deepEqual(a.upstream.seen, []);
          },
        ));
      it(`${title}, allow_degradation: the request goes on, and the error log says so`, () =>
        withHooks(
          sources,
          {
            routes: [hookRoute("/a", hook, [conf], { allow_degradation: true })],
            allowLog: [log],
          },
          async (a) => {
            assert.equal((await a.ask("/a")).status, 200);
            await a.untilLog(log);
          },
        ));
    };

    failing("a name that no plugin has", ["nobody", {}], /nobody/);
    failing("a value that is not JSON", ["fine", "{oops"], /fine.*not JSON/, {
      fine: rewrites("fine", ""),
    });
    failing("a value that the plugin's schema refuses", ["strict", {}], /strict.*word/, {
      strict: `export default definePlugin({
        name: "strict", schema: Type.Object({ word: Type.String() }), rewrite() {} });`,
    });
    failing("a plugin that throws", ["throws", {}], /throws.*out of luck/s, {
      throws: rewrites("throws", `throw new Error("out of luck");`),
    });
    failing("a plugin without a handler for requests", ["after", {}], /after does nothing in/, {
      after: `export default definePlugin({ name: "after", headerFilter() {} });`,
    });
    failing("a plugin that does not compile", ["broken", {}], /broken/, {
      broken: "export default definePlugin({ name: ",
    });
  });
}

describe("ts-plugin-post-resp", () => {
  const edits = `
    export default definePlugin({
      name: "edit", bufferResponse: { maxBytes: 65536 },
      schema: Type.Object({ status: Type.Optional(Type.Integer()), word: Type.String() }),
      headerFilter(ctx, { conf }) {
        if (conf.status !== undefined) ctx.response.status = conf.status;
        ctx.response.headers.set("x-word", conf.word);
        ctx.response.headers.delete("x-secret");
        ctx.response.headers.append("set-cookie", "b=2");
      },
      bodyFilter(ctx, { conf }) {
        return Buffer.from(Buffer.from(ctx.chunk).toString().replace("secret", conf.word));
      },
    });`;
  const answer = (a: Apisix): void => {
    let count = 0;
    a.upstream.on("/a", (_request, response) => {
      response.setHeader("x-secret", "yes");
      response.setHeader("set-cookie", ["a=1"]);
      response.end(`a secret ${++count}`);
    });
  };

  it("the response's status, header fields and body are changed", () =>
    withHooks(
      { edit: edits },
      { routes: [hookRoute("/a", "post-resp", [["edit", { status: 299, word: "pea" }]])] },
      async (a) => {
        answer(a);
        const { status, headers, cookies, text } = await a.ask("/a");
        assert.equal(status, 299);
        assert.equal(headers["x-word"], "pea");
        assert.equal("x-secret" in headers, false);
        assert.deepEqual(cookies, ["a=1", "b=2"]);
        assert.equal(text, "a pea 1");
      },
    ));

  it("beside proxy-cache, which keeps the upstream's response, the hook runs on each", () =>
    withHooks(
      { edit: edits },
      {
        plugins: ["proxy-cache"],
        routes: [
          {
            uri: "/a",
            plugins: {
              "proxy-cache": {},
              ...hookConf("post-resp", [["edit", { word: "pea" }]]),
            },
          },
        ],
      },
      async (a) => {
        // nginx keeps no response that sets cookies.
        a.upstream.on("/a", (_request, response) => {
          response.setHeader("cache-control", "max-age=60");
          response.end(`a secret ${String(a.upstream.seen.length)}`);
        });
        for (const cached of ["MISS", "HIT", "HIT"]) {
          const { headers, text } = await a.ask("/a");
          assert.equal(headers["apisix-cache-status"], cached);
          assert.equal(headers["x-word"], "pea");
          assert.equal(text, "a pea 1");
        }
        assert.equal(a.upstream.seen.length, 1);
      },
    ));

  const failing = (title: string, sources: Record<string, string>, log: RegExp): void => {
    const name = Object.keys(sources)[0]?.replace(/\.\w+$/, "") ?? "nobody";
    it(`${title}: 503 in place of the response, and the error log says so`, () =>
      withHooks(
        sources,
        { routes: [hookRoute("/a", "post-resp", [[name, {}]])], allowLog: [log] },
        async (a) => {
          answer(a);
          const { status, text } = await a.ask("/a");
          assert.equal(status, 503);
          assert.doesNotMatch(text, /secret/);
          await a.untilLog(log);
        },
      ));
    it(`${title}, allow_degradation: the response as it came, and the error log says so`, () =>
      withHooks(
        sources,
        {
          routes: [hookRoute("/a", "post-resp", [[name, {}]], { allow_degradation: true })],
          allowLog: [log],
        },
        async (a) => {
          answer(a);
          const { status, text, cookies } = await a.ask("/a");
          assert.deepEqual([status, text, cookies], [200, "a secret 1", ["a=1"]]);
          await a.untilLog(log);
        },
      ));
  };

  failing("a name that no plugin has", {}, /nobody/);
  failing(
    "a plugin that throws",
    {
      throws: `export default definePlugin({
        name: "throws", headerFilter() { throw new Error("out of luck"); } });`,
    },
    /throws.*out of luck/s,
  );
  failing(
    "a plugin of the JavaScript runner, which has nothing for responses",
    { "runner.cjs": "module.exports = { filter() {} };" },
    /runner does nothing in ts-plugin-post-resp: .* list it in ts-plugin-pre-req or ts-plugin-post-req/,
  );
  failing(
    "a plugin without a handler for responses",
    { before: rewrites("before", "") },
    /before does nothing in ts-plugin-post-resp: .* headerFilter, bodyFilter, log/,
  );

  it("beside proxy-mirror, which gets a copy of the request", () =>
    withHooks({ edit: edits }, { plugins: ["proxy-mirror"] }, async (a) => {
      answer(a);
      const mirrored: string[] = [];
      const mirror = await Upstream.start("mirror");
      mirror.on("/a", (request, response, body) => {
        mirrored.push(`${String(request.method)} ${String(request.url)} ${body.toString()}`);
        response.end("nobody sees this");
      });
      await a.change({
        routes: [
          {
            uri: "/a",
            plugins: {
              "proxy-mirror": { host: mirror.url },
              ...hookConf("post-resp", [["edit", { word: "pea" }]]),
            },
          },
        ],
      });
      try {
        const { headers, text } = await a.ask("/a?x=1", { method: "POST", body: "hello" });
        assert.deepEqual([headers["x-word"], text], ["pea", "a pea 1"]);
        await until("the mirror's copy", () => mirrored.length > 0);
        assert.deepEqual(mirrored, ["POST /a?x=1 hello"]);
      } finally {
        await mirror.stop();
      }
    }));

  it("an answer of another plugin passes untouched: there was no upstream", () =>
    withHooks(
      { edit: edits, stop: rewrites("stop", `return ctx.exit(401, "a secret");`) },
      {
        routes: [
          {
            uri: "/a",
            plugins: {
              ...hookConf("pre-req", [["stop", {}]]),
              ...hookConf("post-resp", [["edit", { word: "pea" }]]),
            },
          },
        ],
      },
      async (a) => {
        const { status, headers, text } = await a.ask("/a");
        assert.deepEqual([status, text, headers["x-word"]], [401, "a secret", undefined]);
      },
    ));
});
