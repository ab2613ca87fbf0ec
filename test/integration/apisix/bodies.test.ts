/** Bodies that plugins filter in APISIX: whole, plain, and of whatever length they become. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { gzipSync } from "node:zlib";
import type { Apisix } from "../../support/apisix.js";
import { hookRoute, withHooks } from "../../support/apisix-hooks.js";
import { withTypescript } from "../../support/apisix-plugins.js";

const BODY = "the secret of the upstream";
const WANTS = { range: "bytes=0-9", "if-range": '"a"', "accept-encoding": "gzip" };

const filter = (name: string, more = ""): string => `
  export default definePlugin({
    name: "${name}", ${more}
    bodyFilter(ctx) {
      return Buffer.from(ctx.chunk).toString().replace("secret", "public and very long word");
    },
  });`;

/** Serves parts, and compresses, where it is asked for that. */
function serve({ upstream }: Apisix): void {
  upstream.on("/a", (request, response) => {
    response.setHeader("etag", '"a"');
    let body: string | Buffer = BODY;
    if (request.headers.range !== undefined) {
      response.statusCode = 206;
      response.setHeader("content-range", `bytes 0-9/${String(BODY.length)}`);
      body = BODY.slice(0, 10);
    } else if (request.headers["accept-encoding"] === "gzip") {
      response.setHeader("content-encoding", "gzip");
      body = gzipSync(BODY);
    }
    response.setHeader("content-length", body.length);
    response.end(body);
  });
}

async function check(a: Apisix): Promise<void> {
  serve(a);
  for (const headers of [{}, WANTS]) {
    const got = await a.ask("/a", { headers });
    assert.deepEqual(
      [got.status, got.text],
      [200, "the public and very long word of the upstream"],
    );
    assert.equal(got.headers["content-encoding"], undefined);
    assert.equal(got.headers["content-length"], undefined);
    assert.equal(got.headers.etag, 'W/"a"');
  }
}

describe("a body that is filtered in APISIX", () => {
  for (const [title, more] of [
    ["a bodyFilter alone", ""],
    ["an access handler, too", "access() {},"],
    ["a rewrite handler, too", "rewrite() {},"],
    ["a beforeProxy handler, too", "beforeProxy() {},"],
    ["a header filter, too", "headerFilter() {},"],
  ] as const) {
    it(`by a plugin with ${title} is the whole new one`, () =>
      withTypescript(
        {
          typescript: { replaces: filter("replaces", more) },
          routes: [{ uri: "/a", plugins: { replaces: {} } }],
        },
        check,
      ));
  }

  it("by a plugin with a delayedBodyFilter alone is the whole new one", () =>
    withTypescript(
      {
        typescript: { replaces: filter("replaces").replace("bodyFilter", "delayedBodyFilter") },
        routes: [{ uri: "/a", plugins: { replaces: {} } }],
      },
      check,
    ));

  it("by ts-plugin-post-resp is the whole new one", () =>
    withHooks(
      { replaces: filter("replaces") },
      { routes: [hookRoute("/a", "post-resp", [["replaces", "{}"]])] },
      check,
    ));

  it("by no plugin is what the client has asked for", () =>
    withHooks(
      {
        looks: `export default definePlugin({
          name: "looks", headerFilter(ctx) { ctx.response.headers.set("x-looked", "yes"); } });`,
      },
      { routes: [hookRoute("/a", "post-resp", [["looks", "{}"]])] },
      async (a) => {
        serve(a);
        assert.equal((await a.ask("/a")).headers["x-looked"], "yes");
        const got = await a.ask("/a", { headers: WANTS });
        assert.deepEqual([got.status, got.text], [206, BODY.slice(0, 10)]);
        assert.equal(got.headers.etag, '"a"');
      },
    ));
});
