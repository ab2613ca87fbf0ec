/** examples/plugins/response-rewrite.ts: status, fields and bodies of a real upstream. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { brotliCompressSync, deflateSync, gzipSync } from "node:zlib";
import { describeGateway, type Upstream } from "../../support/gateway.js";

const rewrite = (conf: string, source: string): string => `
  access_by_lua_block { require("resty.ts.http").access("response-rewrite", ${conf}) }
  header_filter_by_lua_block { require("resty.ts.http").header_filter("response-rewrite") }
  body_filter_by_lua_block { require("resty.ts.http").body_filter("response-rewrite") }
  ${source};`;

const USER = '{"user":{"name":"ada","password":"x"},"list":[1,2,3]}';
const LARGE = `begin ${"secret ".repeat(200_000)}end`;

function serve(upstream: Upstream): void {
  const answers: Record<string, [status: number, type: string, body: string | Buffer]> = {
    "/json/user": [200, "application/json", USER],
    "/json/missing": [404, "application/problem+json; charset=utf-8", '{"user":{}}'],
    "/json/broken": [200, "application/json", "{ no JSON"],
    "/json/image": [200, "image/png", Buffer.from([0x89, 0x50, 0, 0xff])],
    "/json/gzip": [200, "application/json", gzipSync('{"user":{"password":"x"}}')],
    "/json/br": [200, "application/json", brotliCompressSync('{"user":{"password":"x"}}')],
    "/json/deflate": [200, "application/json", deflateSync('{"user":{"password":"x"}}')],
    "/text/gzip": [200, "text/plain", gzipSync("the secret")],
    "/text/a": [200, "text/plain; charset=utf-8", "the secret of Zoë: 42 secrets"],
    "/text/empty": [200, "text/plain", ""],
    "/text/large": [200, "text/plain", LARGE],
  };
  for (const [path, [status, type, body]] of Object.entries(answers)) {
    upstream.on(path, (_request, response) => {
      response.writeHead(status, {
        "content-type": type,
        "x-powered-by": "magic",
        etag: '"1"',
        "content-length": Buffer.byteLength(body),
        ...(/gzip|br$|deflate/.test(path) && { "content-encoding": path.split("/")[2] }),
      });
      response.end(body);
    });
  }
}

describeGateway(
  "response-rewrite",
  () => ({
    locations: ({ upstream }) => {
      serve(upstream);
      const json = `{
        status = { ["404"] = 200 }, set = { ["x-by"] = "rewrite" }, append = { ["x-by"] = "two" },
        remove = { "x-powered-by" },
        json = { { path = "/user/password", remove = true }, { path = "/user/seen", value = true },
                 { path = "/list/1", remove = true }, { path = "/none/x", value = 1 } } }`;
      return {
        "/json": rewrite(json, `proxy_pass ${upstream.url}`),
        "/file/": rewrite(json, "default_type application/json; alias files/"),
        "/text": rewrite(
          `{ replace = { { pattern = "secret(s?)", with = "[$1]" },
                         { pattern = "^THE", flags = "i", with = "A" } } }`,
          `proxy_pass ${upstream.url}`,
        ),
        "/bad": rewrite(
          `{ replace = { { pattern = "(", with = "" } } }`,
          `proxy_pass ${upstream.url}`,
        ),
      };
    },
    files: { "files/user.json": USER },
    allowLog: [/response-rewrite/, /Invalid regular expression/],
  }),
  (gateway, client) => {
    test("JSON is edited, fields are set, added and removed", async () => {
      const reply = await client.ask("/json/user");
      assert.equal(reply.status, 200);
      assert.deepEqual(reply.json(), { user: { name: "ada", seen: true }, list: [1, 3] });
      assert.equal(reply.headers["x-by"], "rewrite, two");
      assert.equal(reply.headers["x-powered-by"], undefined);
      assert.equal(reply.headers["etag"], undefined, "it named another body");
    });

    test("a status becomes another, for JSON of any kind", async () => {
      const reply = await client.ask("/json/missing");
      assert.equal(reply.status, 200);
      assert.deepEqual(reply.json(), { user: { seen: true } });
    });

    test("text is replaced, characters beyond ASCII are kept", async () => {
      const reply = await client.ask("/text/a");
      assert.equal(reply.text, "A [] of Zoë: 42 [s]");
    });

    test("what is compressed is decoded, whatever the client asks for", async () => {
      for (const coding of ["gzip", "br", "deflate"]) {
        const headers = { "accept-encoding": coding };
        const packed = await client.ask(`/json/${coding}`, { headers });
        assert.deepEqual(packed.json(), { user: { seen: true } });
        assert.equal(packed.headers["content-encoding"], undefined);
      }
      assert.equal((await client.ask("/text/gzip")).text, "A []");
    });

    test("a part of a body is not to be had", async () => {
      for (const headers of [
        { range: "bytes=0-59" },
        { range: "bytes=0-3,10-20", "if-range": '"1"' },
      ]) {
        for (const path of ["/json/user", "/file/user.json"]) {
          const reply = await client.ask(path, { headers });
          assert.equal(reply.status, 200);
          assert.deepEqual(reply.json(), { user: { name: "ada", seen: true }, list: [1, 3] });
        }
      }
      for (const { headers } of gateway().upstream.seen) {
        assert.deepEqual([headers["range"], headers["if-range"]], [undefined, undefined]);
      }
    });

    test("what is no text, or empty, goes by as it is", async () => {
      const image = await client.ask("/json/image");
      assert.deepEqual([...image.body], [0x89, 0x50, 0, 0xff]);
      assert.equal((await client.ask("/text/empty")).text, "");
    });

    test("HEAD has the same fields and no body", async () => {
      const reply = await client.ask("/json/user", { method: "HEAD" });
      assert.equal(reply.status, 200);
      assert.equal(reply.headers["x-by"], "rewrite, two");
      assert.equal(reply.text, "");
    });

    test("a body that is not what it says goes by, and the log says so", async () => {
      assert.equal((await client.ask("/json/broken")).text, "{ no JSON");
      await gateway().nginx.waitForLog(/response-rewrite, body_filter, .*SyntaxError/);
    });

    test("a body above the limit goes by as it is, and the log says so", async () => {
      const reply = await client.ask("/text/large");
      assert.ok(reply.text === LARGE, `${reply.text.length} bytes of ${LARGE.length}`);
      await gateway().nginx.waitForLog(/the response's body has more than 1048576 bytes/);
    });

    test("an expression that is none is refused, before anything goes by", async () => {
      const before = gateway().upstream.seen.length;
      assert.equal((await client.ask("/bad")).status, 500);
      assert.equal(gateway().upstream.seen.length, before);
      await gateway().nginx.waitForLog(/Invalid regular expression/);
    });
  },
);
