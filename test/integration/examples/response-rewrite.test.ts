/** examples/plugins/response-rewrite.ts: status, fields and bodies of a real upstream. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { describeGateway, type Upstream } from "../../support/gateway.js";

const rewrite = (conf: string, upstream: string): string => `
  access_by_lua_block { require("resty.ts.http").access("response-rewrite", ${conf}) }
  header_filter_by_lua_block { require("resty.ts.http").header_filter("response-rewrite") }
  body_filter_by_lua_block { require("resty.ts.http").body_filter("response-rewrite") }
  proxy_pass ${upstream};`;

const LARGE = `begin ${"secret ".repeat(200_000)}end`;

function serve(upstream: Upstream): void {
  const answers: Record<string, [status: number, type: string, body: string | Buffer]> = {
    "/json/user": [
      200,
      "application/json",
      '{"user":{"name":"ada","password":"x"},"list":[1,2,3]}',
    ],
    "/json/missing": [404, "application/problem+json; charset=utf-8", '{"user":{}}'],
    "/json/broken": [200, "application/json", "{ no JSON"],
    "/json/image": [200, "image/png", Buffer.from([0x89, 0x50, 0, 0xff])],
    "/json/gzip": [200, "application/json", gzipSync('{"user":{"password":"x"}}')],
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
        ...(path.endsWith("gzip") ? { "content-encoding": "gzip" } : {}),
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
      return {
        "/json": rewrite(
          `{ status = { ["404"] = 200 }, set = { ["x-by"] = "rewrite" }, append = { ["x-by"] = "two" },
             remove = { "x-powered-by" },
             json = { { path = "/user/password", remove = true }, { path = "/user/seen", value = true },
                      { path = "/list/1", remove = true }, { path = "/none/x", value = 1 } } }`,
          upstream.url,
        ),
        "/text": rewrite(
          `{ replace = { { pattern = "secret(s?)", with = "[$1]" },
                         { pattern = "^THE", flags = "i", with = "A" } } }`,
          upstream.url,
        ),
        "/bad": rewrite(`{ replace = { { pattern = "(", with = "" } } }`, upstream.url),
      };
    },
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

    test("what is no text, compressed or empty goes by as it is", async () => {
      const image = await client.ask("/json/image");
      assert.deepEqual([...image.body], [0x89, 0x50, 0, 0xff]);
      assert.equal(image.headers["etag"], '"1"');
      const packed = await client.ask("/json/gzip", { headers: { "accept-encoding": "gzip" } });
      assert.deepEqual(packed.body, gzipSync('{"user":{"password":"x"}}'));
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
