/** How often a request crosses to TypeScript and back, for each example: a count, whatever the time. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SignJWT } from "jose";
import { describeGateway, type GatewayRequest } from "../../support/gateway.js";

const SECRET = "a secret of the tests, long enough for HS256";
const REQUESTS = 5;

/** Runs the plugin in these phases; the first has the configuration. */
const run = (plugin: string, conf: string, phases: string[], upstream: string): string =>
  phases
    .map((phase, i) => {
      const args = i === 0 ? `"${plugin}", ${conf}` : `"${plugin}"`;
      return `${phase}_by_lua_block { require("resty.ts.http").${phase}(${args}) }`;
    })
    .join("\n") + `\nproxy_pass ${upstream};`;

const token = await new SignJWT({ sub: "ada" })
  .setProtectedHeader({ alg: "HS256" })
  .setExpirationTime("1h")
  .sign(new TextEncoder().encode(SECRET));
const json = { "content-type": "application/json" };

/** Calls of one request: one a phase in which the plugin does something, one a round of questions. */
const CASES: Record<string, [calls: number, request: GatewayRequest]> = {
  "/jwt-auth": [1, { headers: { authorization: `Bearer ${token}` } }],
  "/rate-limit": [2, {}],
  "/request-validation": [2, { method: "POST", headers: json, body: "{}" }],
  "/no-body": [1, {}],
  "/response-rewrite": [2, {}],
  "/cors": [1, { headers: { origin: "https://a.org" } }],
  "/ab-upstream": [1, {}],
  "/access-logger": [0, {}],
};

describeGateway(
  "crossings",
  () => ({
    http: () => "lua_shared_dict rate_limit 1m;",
    locations: ({ upstream: { url, port } }) => ({
      "/jwt-auth": run("jwt-auth", `{ secret = "${SECRET}" }`, ["access"], url),
      "/rate-limit": run("rate-limit", `{ limit = 1000 }`, ["access"], url),
      "/request-validation": run(
        "request-validation",
        `{ body = { type = "object" } }`,
        ["access"],
        url,
      ),
      "/no-body": run("request-validation", `{ query = { type = "object" } }`, ["access"], url),
      "/response-rewrite": run(
        "response-rewrite",
        `{ set = { ["x-a"] = "b" } }`,
        ["access", "header_filter", "body_filter"],
        url,
      ),
      "/cors": run("cors", `{ origins = { "*" } }`, ["rewrite", "header_filter"], url),
      "/ab-upstream": `set $ab_upstream "";
        ${run(
          "ab-upstream",
          `{ variants = { { name = "a", upstream = "127.0.0.1:${port}" } } }`,
          ["access"],
          "http://$ab_upstream",
        )}`,
      "/access-logger": run("access-logger", `{ url = "${url}" }`, ["access", "log"], url),
    }),
  }),
  (gateway, client) => {
    const calls = async (): Promise<number> =>
      (await gateway().nginx.json<{ calls: number }>("/_stats")).calls;

    for (const [path, [expected, request]] of Object.entries(CASES)) {
      test(`${path.slice(1)}: ${expected} a request`, async () => {
        // The first has the plugin configured, once for all.
        assert.equal((await client.ask(path, request)).status, 200);
        const before = await calls();
        for (let i = 0; i < REQUESTS; i++) {
          assert.equal((await client.ask(path, request)).status, 200);
        }
        assert.equal(((await calls()) - before) / REQUESTS, expected);
      });
    }
  },
);
