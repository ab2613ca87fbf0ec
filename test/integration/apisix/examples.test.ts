/** The examples, unchanged, as plugins of APISIX's own, by the files that generate writes. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { SignJWT } from "jose";
import { withTypescript } from "../../support/apisix-plugins.js";
import type { Seen } from "../../support/gateway.js";

const SECRET = "a secret of the tests, long enough for HS256";

const token = (claims = {}): Promise<string> =>
  new SignJWT({ sub: "ada", ...claims })
    .setProtectedHeader({ alg: "HS256" })
    .setExpirationTime("1h")
    .sign(new TextEncoder().encode(SECRET));

describe("examples/plugins in APISIX", () => {
  it("jwt-auth, under another name than APISIX's own", () =>
    withTypescript(
      {
        examples: ["jwt-auth"],
        prefix: "ts-",
        routes: [{ uri: "/a", plugins: { "ts-jwt-auth": { secret: SECRET } } }],
      },
      async (a) => {
        const refused = await a.ask("/a");
        assert.equal(refused.status, 401);
        assert.match(refused.headers["www-authenticate"] ?? "", /^Bearer realm="api"/);
        const headers = { authorization: `Bearer ${await token()}`, "x-user": "liar" };
        const { headers: seen } = (await a.ask("/a", { headers })).json<Seen>();
        assert.equal(seen["x-user"], "ada");
      },
    ));

  it("jwt-auth refuses a short secret as APISIX does", () =>
    withTypescript(
      {
        examples: ["jwt-auth"],
        prefix: "ts-",
        routes: [{ uri: "/a", plugins: { "ts-jwt-auth": { secret: "short" } } }],
        allowLog: [/failed to check item data/],
      },
      async (a) => {
        assert.equal((await a.ask("/a")).status, 404);
        const message =
          "failed to check the configuration of plugin ts-jwt-auth err: " +
          'property "secret" validation failed: string too short, expected at least 32, got 5';
        assert.ok(a.errorLog().includes(message), a.errorLog());
      },
    ));

  it("rate-limit, each route with a limit of its own", () =>
    withTypescript(
      {
        examples: ["rate-limit"],
        dicts: ["rate_limit"],
        routes: [1, 2].map((limit) => ({
          id: String(limit),
          uri: `/${String(limit)}`,
          plugins: {
            "rate-limit": { limit, windowSeconds: 3600, keyHeader: `x-key-${String(limit)}` },
          },
        })),
      },
      async (a) => {
        const statuses = async (limit: number): Promise<number[]> => {
          const headers = { [`x-key-${String(limit)}`]: `client ${String(limit)}` };
          const seen: number[] = [];
          for (let i = 0; i < 3; i++) {
            seen.push((await a.ask(`/${String(limit)}`, { headers })).status);
          }
          return seen;
        };
        assert.deepEqual(await statuses(1), [200, 429, 429]);
        assert.deepEqual(await statuses(2), [200, 200, 429]);
      },
    ));

  it("response-rewrite changes status, fields and body of the upstream's response", () =>
    withTypescript(
      {
        examples: ["response-rewrite"],
        prefix: "ts-",
        routes: [
          {
            uri: "/a",
            plugins: {
              "ts-response-rewrite": {
                status: { "404": 200 },
                remove: ["x-secret"],
                json: [{ path: "/user/password", remove: true }],
              },
            },
          },
        ],
      },
      async (a) => {
        a.upstream.on("/a", (_request, response) => {
          response.writeHead(404, { "content-type": "application/json", "x-secret": "1" });
          response.end('{"user":{"name":"ada","password":"x"}}');
        });
        const { status, headers, text } = await a.ask("/a");
        assert.deepEqual([status, headers["x-secret"]], [200, undefined]);
        assert.deepEqual(JSON.parse(text), { user: { name: "ada" } });
      },
    ));

  it("ai-gateway answers in access, streams, and keeps a quota; jwt-auth says who asks", () =>
    withTypescript(
      {
        examples: ["ai-gateway", "jwt-auth"],
        prefix: "ts-",
        dicts: ["ai_tokens"],
      },
      async (a) => {
        a.upstream.on("/v1/model", (_request, response, body) => {
          if ((JSON.parse(body.toString()) as { stream?: boolean }).stream !== true) {
            response.writeHead(200, { "content-type": "application/json" });
            response.end('{"choices":[],"usage":{"total_tokens":30}}');
            return;
          }
          response.writeHead(200, { "content-type": "text/event-stream" });
          response.write('data: {"choices":[{"delta":{"content":"hi"}}]}\n\n');
          response.end('data: {"choices":[],"usage":{"total_tokens":30}}\n\ndata: [DONE]\n\n');
        });
        await a.change({
          routes: [
            {
              uri: "/chat",
              upstream: null,
              plugins: {
                "ts-jwt-auth": { secret: SECRET },
                "ts-ai-gateway": { endpoint: `${a.upstream.url}/v1/model`, tokens: 100 },
              },
            },
          ],
        });
        const headers = { authorization: `Bearer ${await token()}` };
        const chat = (more: object) =>
          a.ask("/chat", {
            method: "POST",
            headers,
            body: JSON.stringify({ messages: [], max_tokens: 40, ...more }),
          });
        const whole = await chat({});
        assert.equal(whole.status, 200, whole.text);
        assert.equal(whole.json<{ usage: { total_tokens: number } }>().usage.total_tokens, 30);
        const stream = await chat({ stream: true });
        assert.equal(stream.headers["content-type"], "text/event-stream");
        assert.match(stream.text, /"content":"hi"[^]*\[DONE\]/);
        // 60 of 100 are taken: 40 more are allowed, 41 are not.
        const refused = await chat({ max_tokens: 41 });
        assert.equal(refused.status, 429);
        assert.equal(refused.headers["content-type"], "application/problem+json");
        assert.equal((await a.ask("/chat", { method: "POST", body: "{}" })).status, 401);
      },
    ));
});
