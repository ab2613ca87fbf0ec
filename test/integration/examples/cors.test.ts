/** examples/plugins/cors.ts before a real upstream. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeGateway } from "../../support/gateway.js";

const use = (conf: string, upstream: string): string => `
  rewrite_by_lua_block { require("resty.ts.http").rewrite("cors", ${conf}) }
  header_filter_by_lua_block { require("resty.ts.http").header_filter("cors", ${conf}) }
  proxy_pass ${upstream};`;

describeGateway(
  "cors",
  () => ({
    locations: ({ upstream }) => ({
      "/api": use(
        `{ origins = { "https://app.example.org", "https://*.example.net" }, credentials = true,
           exposeHeaders = { "x-total" }, maxAgeSeconds = 60 }`,
        upstream.url,
      ),
      "/public": use(`{ origins = { "*" } }`, upstream.url),
      "/wrong": use(`{ origins = { "*" }, credentials = true }`, upstream.url),
    }),
    allowLog: [/credentials with origins/],
  }),
  (gateway, client) => {
    const preflight = (path: string, origin: string) =>
      client.ask(path, {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "PUT" },
      });

    test("a preflight is answered for an allowed origin and does not reach the upstream", async () => {
      const before = gateway().upstream.seen.length;
      const reply = await preflight("/api/x", "https://app.example.org");
      assert.equal(reply.status, 204);
      assert.equal(reply.headers["access-control-allow-origin"], "https://app.example.org");
      assert.equal(reply.headers["access-control-allow-credentials"], "true");
      assert.equal(
        reply.headers["access-control-allow-methods"],
        "GET, HEAD, POST, PUT, PATCH, DELETE",
      );
      assert.equal(reply.headers["access-control-allow-headers"], "authorization, content-type");
      assert.equal(reply.headers["access-control-max-age"], "60");
      assert.match(reply.headers["vary"] ?? "", /origin/);
      assert.equal(reply.text, "");
      assert.equal(gateway().upstream.seen.length, before);
    });

    test("a preflight of another origin allows nothing", async () => {
      const reply = await preflight("/api/x", "https://example.net.evil.org");
      assert.equal(reply.status, 204);
      assert.equal(reply.headers["access-control-allow-origin"], undefined);
      assert.match(reply.headers["vary"] ?? "", /origin/);
    });

    test("an allowed origin may read the answer, whatever the upstream says of it", async () => {
      gateway().upstream.on("/api/own", (_request, response) => {
        response.setHeader("access-control-allow-origin", "*");
        response.setHeader("vary", "accept-encoding");
        response.end("own");
      });
      const reply = await client.ask("/api/own", { headers: { origin: "https://a.example.net" } });
      assert.equal(reply.text, "own");
      assert.equal(reply.headers["access-control-allow-origin"], "https://a.example.net");
      assert.equal(reply.headers["access-control-expose-headers"], "x-total");
      assert.match(reply.headers["vary"] ?? "", /origin, ?accept-encoding/i);
    });

    test("another origin, or none, gets no permission, and caches are told", async () => {
      for (const headers of [{ origin: "https://evil.org" }, {}]) {
        const reply = await client.ask("/api/x", { headers });
        assert.equal(reply.status, 200);
        assert.equal(reply.headers["access-control-allow-origin"], undefined);
        assert.match(reply.headers["vary"] ?? "", /origin/);
      }
    });

    test("with * any origin may read, and the answer does not vary", async () => {
      const reply = await client.ask("/public", { headers: { origin: "https://evil.org" } });
      assert.equal(reply.headers["access-control-allow-origin"], "*");
      assert.equal(reply.headers["vary"], undefined);
    });

    test("an OPTIONS request that is no preflight reaches the upstream", async () => {
      const reply = await client.ask("/public", { method: "OPTIONS" });
      assert.equal(reply.json()["method"], "OPTIONS");
    });

    test("a configuration that lets any site act for its visitors is refused", async () => {
      const reply = await client.ask("/wrong", { headers: { origin: "https://evil.org" } });
      assert.equal(reply.status, 500);
      assert.equal(reply.headers["content-type"], "application/problem+json");
    });
  },
);
