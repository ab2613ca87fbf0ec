/** Plugins written for the community's JavaScript runner, in the hooks. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { hookRoute, withHooks } from "../../support/apisix-hooks.js";
import type { Seen } from "../../support/gateway.js";

const SAY = `
  class SayPlugin {
    getName() { return "say"; }
    parseConf(text) { return JSON.parse(text); }
    filter(conf, request, response) {
      response.headers = new Map([["X-Resp-By", "runner"]]);
      response.body = conf.body;
    }
  }
  module.exports = SayPlugin;`;

const REWRITE = `
  export default {
    async filter(conf, request) {
      request.path = "/b%2Fc";
      request.args.set("set", "new value");
      request.args.delete("gone");
      request.headers.set("X-Set", request.headers.get("x-many"));
      request.headers.append("x-many", "3");
      request.headers.delete("x-gone");
      request.headers.set("X-Conf", conf);
      request.headers.set("X-Body", String((await request.body()).length));
    },
  };`;

describe("plugins of the community's runner", () => {
  it("one that answers: status 200, its header fields and body", () =>
    withHooks(
      { "say.cjs": SAY },
      { routes: [hookRoute("/a", "pre-req", [["say", { body: "hello" }]])] },
      async (a) => {
        const { status, headers, text } = await a.ask("/a");
        assert.deepEqual([status, headers["x-resp-by"], text], [200, "runner", "hello"]);
        assert.deepEqual(a.upstream.seen, []);
      },
    ));

  it("one that changes the request: all else goes on as it came", () =>
    withHooks(
      { "rewrite.mjs": REWRITE },
      { routes: [hookRoute("/*", "post-req", [["rewrite", "the text"]])] },
      async (a) => {
        const reply = await a.ask("/a?x=1&x=2&a&gone=1&set=old&e=%2F", {
          method: "POST",
          body: "12345",
          headers: { "x-many": ["1", "2"], "x-gone": "1", cookie: ["a=1", "b=2"] },
        });
        const { url, headers, body } = reply.json<Seen>();
        assert.equal(url, "/b%2Fc?x=1&x=2&a&set=new%20value&e=%2F");
        assert.equal(headers["x-many"], "1, 2, 3");
        assert.equal(headers["x-set"], "1, 2");
        assert.equal("x-gone" in headers, false);
        assert.equal(headers.cookie, "a=1; b=2");
        assert.equal(headers["x-conf"], "the text");
        assert.deepEqual([headers["x-body"], body], ["5", "12345"]);
      },
    ));

  it("one that throws, and a value that parseConf refuses: 503, and others serve", () =>
    withHooks(
      {
        "say.cjs": SAY,
        "throws.mjs": `export default { filter() { throw new Error("on purpose"); } };`,
      },
      {
        routes: [
          { id: "1", ...hookRoute("/say", "pre-req", [["say", { body: "hello" }]]) },
          { id: "2", ...hookRoute("/bad", "pre-req", [["say", "not json"]]) },
          { id: "3", ...hookRoute("/throws", "pre-req", [["throws", ""]]) },
        ],
        allowLog: [/say: .*parseConf failed/, /throws, .*on purpose/],
      },
      async (a) => {
        for (let i = 0; i < 2; i++) {
          assert.equal((await a.ask("/bad")).status, 503);
          assert.equal((await a.ask("/throws")).status, 503);
          assert.equal((await a.ask("/say")).text, "hello");
        }
      },
    ));
});
