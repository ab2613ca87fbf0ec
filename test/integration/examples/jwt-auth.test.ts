/** examples/plugins/jwt-auth.ts: keys of all kinds, a real JWKS server, and what Lua sees of it. */
import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { test } from "node:test";
import { exportJWK, SignJWT, UnsecuredJWT } from "jose";
import { describeGateway } from "../../support/gateway.js";

const SECRET = "a secret of the tests, long enough for HS256";
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const other = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = generateKeyPairSync("ec", { namedCurve: "P-256" });
const pem = (key: KeyObject): string => key.export({ type: "spki", format: "pem" }).toString();
const bytes = (secret: string): Uint8Array => new TextEncoder().encode(secret);

type Key = Parameters<SignJWT["sign"]>[0];
const nowSeconds = (): number => Math.floor(Date.now() / 1000);

function sign(key: Key, alg: string, claims: Record<string, unknown> = {}): Promise<string> {
  const payload = { sub: "ada", iss: "tests", aud: "api", exp: nowSeconds() + 3600, ...claims };
  return new SignJWT(payload)
    .setProtectedHeader({ alg, kid: key === ec.privateKey ? "ec" : "rsa" })
    .sign(key);
}

const auth = (conf: string, upstream: string): string => `
  access_by_lua_block {
    require("resty.ts.http").access("jwt-auth", ${conf})
    ngx.header["x-lua-saw"] = tostring(ngx.req.get_headers()["x-user"]) .. "," .. tostring(ngx.ctx.jwt_sub)
  }
  proxy_pass ${upstream};`;

describeGateway(
  "jwt-auth",
  () => ({
    locations: ({ upstream }) => ({
      "/hs": auth(`{ secret = "${SECRET}", realm = "tests" }`, upstream.url),
      "/rs": auth(`{ publicKey = [[${pem(rsa.publicKey)}]] }`, upstream.url),
      "/es": auth(`{ publicKey = [[${pem(ec.publicKey)}]] }`, upstream.url),
      "/jwks": auth(
        `{ jwksUrl = "${upstream.url}/keys.json", issuer = "tests", audience = "api" }`,
        upstream.url,
      ),
      "/no-keys": auth(`{ jwksUrl = "${upstream.url}/none.json" }`, upstream.url),
      "/claims": auth(
        `{ secret = "${SECRET}", forwardToken = false,
           claims = { sub = "x-user", name = "x-name", roles = "x-roles" } }`,
        upstream.url,
      ),
      "/tolerant": auth(`{ secret = "${SECRET}", clockToleranceSeconds = 300 }`, upstream.url),
      "/two-keys": auth(
        `{ secret = "${SECRET}", jwksUrl = "${upstream.url}/keys.json" }`,
        upstream.url,
      ),
    }),
    allowLog: [/wants one of secret/, /JSON Web Key Set/, /JWKS/],
  }),
  (gateway, client) => {
    const ask = (path: string, token?: string, headers: Record<string, string> = {}) =>
      client.ask(path, {
        headers: token === undefined ? headers : { ...headers, authorization: `Bearer ${token}` },
      });
    const serveKeys = async (): Promise<void> => {
      const keys = [
        { ...(await exportJWK(rsa.publicKey)), kid: "rsa", alg: "RS256" },
        { ...(await exportJWK(ec.publicKey)), kid: "ec", alg: "ES256" },
      ];
      gateway().upstream.on("/keys.json", (_request, response) => {
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify({ keys }));
      });
      gateway().upstream.on("/none.json", (_request, response) => {
        response.statusCode = 503;
        response.end();
      });
    };

    test("a token of HS256 goes through, with the subject in a field", async () => {
      const token = await sign(bytes(SECRET), "HS256");
      const reply = await ask("/hs", token, { "x-user": "mallory" });
      assert.equal(reply.status, 200);
      const seen = reply.json<{ headers: Record<string, string> }>();
      assert.equal(seen.headers["x-user"], "ada");
      assert.equal(seen.headers["authorization"], `Bearer ${token}`);
    });

    test("Lua code that runs later in the phase sees the field and ngx.ctx", async () => {
      const reply = await ask("/hs", await sign(bytes(SECRET), "HS256"));
      assert.equal(reply.headers["x-lua-saw"], "ada,ada");
    });

    test("without a token the answer is 401 and a challenge with no error", async () => {
      const before = gateway().upstream.seen.length;
      for (const headers of [{}, { authorization: "Basic YTpi" }, { authorization: "Bearer" }]) {
        const reply = await ask("/hs", undefined, headers);
        assert.equal(reply.status, 401);
        assert.equal(reply.headers["www-authenticate"], 'Bearer realm="tests"');
        assert.deepEqual(reply.json(), { message: "a bearer token is wanted" });
      }
      assert.equal(gateway().upstream.seen.length, before, "the upstream saw none");
    });

    const bad: Record<string, () => Promise<string> | string> = {
      "another key's signature": () => sign(bytes(`${SECRET}!`), "HS256"),
      "no signature (alg none)": () => new UnsecuredJWT({ sub: "ada" }).encode(),
      "another hash": () => sign(bytes(SECRET), "HS512"),
      "a time that has passed": () => sign(bytes(SECRET), "HS256", { exp: nowSeconds() - 60 }),
      "a time that is to come": () => sign(bytes(SECRET), "HS256", { nbf: nowSeconds() + 60 }),
      "no dots": () => "abc",
      "dots and nothing": () => "a.b.c",
    };
    for (const [title, make] of Object.entries(bad)) {
      test(`a token with ${title} is answered with 401 and invalid_token`, async () => {
        const reply = await ask("/hs", await make());
        assert.equal(reply.status, 401);
        assert.match(
          reply.headers["www-authenticate"] ?? "",
          /^Bearer realm="tests", error="invalid_token", error_description="[^"]+"$/,
        );
      });
    }

    test("the issuer's clock may be off by the tolerance", async () => {
      const token = await sign(bytes(SECRET), "HS256", { exp: nowSeconds() - 60 });
      assert.equal((await ask("/tolerant", token)).status, 200);
    });

    test("RS256 and ES256 with a public key", async () => {
      assert.equal((await ask("/rs", await sign(rsa.privateKey, "RS256"))).status, 200);
      assert.equal((await ask("/es", await sign(ec.privateKey, "ES256"))).status, 200);
      assert.equal((await ask("/rs", await sign(other.privateKey, "RS256"))).status, 401);
    });

    test("a public key is no HS256 secret", async () => {
      const token = await sign(bytes(pem(rsa.publicKey)), "HS256");
      assert.equal((await ask("/rs", token)).status, 401);
    });

    test("keys come from a JWKS URL, once", async () => {
      await serveKeys();
      for (const token of [
        await sign(rsa.privateKey, "RS256"),
        await sign(ec.privateKey, "ES256"),
        await sign(rsa.privateKey, "RS256"),
      ]) {
        const reply = await ask("/jwks", token);
        assert.equal(reply.status, 200, reply.text);
      }
      const fetches = gateway().upstream.seen.filter(({ url }) => url === "/keys.json");
      assert.equal(fetches.length, 1, "for this worker, whatever the client");
    });

    test("issuer and audience must be those of the configuration", async () => {
      await serveKeys();
      const key = rsa.privateKey;
      assert.equal((await ask("/jwks", await sign(key, "RS256", { iss: "x" }))).status, 401);
      assert.equal((await ask("/jwks", await sign(key, "RS256", { aud: "x" }))).status, 401);
      assert.equal(
        (await ask("/jwks", await sign(key, "RS256", { aud: ["x", "api"] }))).status,
        200,
      );
    });

    test("keys that cannot be fetched are the server's fault, and closed", async () => {
      await serveKeys();
      const reply = await ask("/no-keys", await sign(rsa.privateKey, "RS256"));
      assert.equal(reply.status, 500);
      assert.equal(reply.headers["content-type"], "application/problem+json");
      assert.equal(reply.headers["www-authenticate"], undefined);
    });

    test("claims go to their fields, the client's own are dropped, the token stays here", async () => {
      const token = await sign(bytes(SECRET), "HS256", { name: "Ada Lovelacé", roles: ["a", "b"] });
      const all = await ask("/claims", token);
      const seen = all.json<{ headers: Record<string, string> }>().headers;
      assert.equal(Buffer.from(seen["x-name"] ?? "", "latin1").toString(), "Ada Lovelacé");
      assert.equal(seen["x-roles"], '["a","b"]');
      assert.equal(seen["authorization"], undefined);

      const without = await ask("/claims", await sign(bytes(SECRET), "HS256"), {
        "x-roles": '["admin"]',
      });
      assert.equal(
        without.json<{ headers: Record<string, string> }>().headers["x-roles"],
        undefined,
      );
    });

    test("two keys in one configuration are refused", async () => {
      const reply = await ask("/two-keys", await sign(bytes(SECRET), "HS256"));
      assert.equal(reply.status, 500);
      assert.doesNotMatch(reply.text, /secret/);
    });
  },
);
