/**
 * Lets in who has a good JSON Web Token (RFC 7519), and tells the upstream who it is.
 *
 *     location /api {
 *       access_by_lua_block { require("resty.ts.http").access("jwt-auth", {
 *                               jwksUrl = "https://id.example.org/.well-known/jwks.json",
 *                               issuer = "https://id.example.org/", audience = "api" }) }
 *       proxy_pass http://backend;
 *     }
 *
 * The key is one of `secret` (HS256), `publicKey` (PEM, RS256 or ES256) and `jwksUrl`. Which
 * algorithms are good follows from it, never from the token. A key set that cannot be fetched is no
 * fault of the client's: the policy onError answers, 500 by default.
 */
import { createPublicKey } from "node:crypto";
import {
  createRemoteJWKSet,
  errors,
  importSPKI,
  jwtVerify,
  type CryptoKey,
  type JWTVerifyGetKey,
} from "jose";
import { definePlugin, Type } from "resty-ts";

const BEARER = /^Bearer +([A-Za-z0-9\-._~+/]+=*)$/i;

/** Faults of the token or of the server: these codes are the server's. */
const SERVER_FAULTS = new Set(["ERR_JWKS_TIMEOUT", "ERR_JWKS_INVALID", "ERR_JOSE_GENERIC"]);

function challenge(realm: string, description?: string): string {
  const value = `Bearer realm="${realm}"`;
  if (description === undefined) return value;
  const text = description.replaceAll(/[^\x20-\x7e]|["\\]/g, "'");
  return `${value}, error="invalid_token", error_description="${text}"`;
}

/** A claim as a field's value: bytes, so whatever is not ASCII goes as UTF-8. */
function claimText(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const text = typeof value === "string" ? value : JSON.stringify(value);
  // A value with line breaks or NUL is none that an upstream expects: it is refused when it is set.
  return Buffer.from(text, "utf8").toString("latin1");
}

export default definePlugin({
  name: "jwt-auth",
  version: "1.0.0",
  priority: 2510,
  schema: Type.Object({
    secret: Type.Optional(
      Type.String({ minLength: 32, description: "The key of HS256, at least as long as its hash" }),
    ),
    publicKey: Type.Optional(
      Type.String({ description: "A public key in PEM (SPKI): RSA for RS256, P-256 for ES256" }),
    ),
    jwksUrl: Type.Optional(
      Type.String({ format: "uri", description: "Where the issuer publishes its keys (RFC 7517)" }),
    ),
    issuer: Type.Optional(Type.String({ description: "The only good value of `iss`" })),
    audience: Type.Optional(Type.String({ description: "What `aud` must have among its values" })),
    clockToleranceSeconds: Type.Integer({
      default: 5,
      minimum: 0,
      maximum: 300,
      description: "How far the issuer's clock may be from ours, for `exp` and `nbf`",
    }),
    claims: Type.Record(Type.String(), Type.String(), {
      default: { sub: "x-user" },
      description: "Claims to request header fields; whatever the client sends in these is dropped",
    }),
    realm: Type.String({ default: "api", pattern: '^[^"\\\\]*$', description: "For the 401" }),
    forwardToken: Type.Boolean({
      default: true,
      description: "Whether the upstream gets the token, too",
    }),
  }),

  async setup(conf) {
    const { secret, publicKey, jwksUrl } = conf;
    if ([secret, publicKey, jwksUrl].filter((key) => key !== undefined).length !== 1) {
      throw new Error("jwt-auth wants one of secret, publicKey and jwksUrl");
    }
    if (secret !== undefined) {
      const hmac = { name: "HMAC", hash: "SHA-256" };
      const bytes = new TextEncoder().encode(secret);
      const key = await crypto.subtle.importKey("raw", bytes, hmac, false, ["verify"]);
      return { key: key as CryptoKey | JWTVerifyGetKey, algorithms: ["HS256"] };
    }
    if (publicKey !== undefined) {
      const type = createPublicKey(publicKey).asymmetricKeyType;
      const algorithm = type === "ec" ? "ES256" : "RS256";
      return { key: await importSPKI(publicKey, algorithm), algorithms: [algorithm] };
    }
    // Fetched at the first token, again for a key that is not known yet, and kept ten minutes.
    return { key: createRemoteJWKSet(new URL(jwksUrl!)), algorithms: ["RS256", "ES256"] };
  },

  async access(ctx, { conf, state }) {
    const { headers } = ctx.request;
    const authorization = headers.get("authorization");
    const token = BEARER.exec(authorization ?? "")?.[1];
    for (const name of Object.values(conf.claims)) headers.delete(name);
    if (token === undefined) {
      ctx.response.headers.set("www-authenticate", challenge(conf.realm));
      return ctx.exit(401, { message: "a bearer token is wanted" });
    }
    try {
      const getKey = typeof state.key === "function" ? state.key : () => state.key as CryptoKey;
      const { payload } = await jwtVerify(token, getKey, {
        algorithms: state.algorithms,
        clockTolerance: conf.clockToleranceSeconds,
        ...(conf.issuer === undefined ? {} : { issuer: conf.issuer }),
        ...(conf.audience === undefined ? {} : { audience: conf.audience }),
      });
      for (const [claim, name] of Object.entries(conf.claims)) {
        const value = claimText(payload[claim]);
        if (value !== null) headers.set(name, value);
      }
      if (!conf.forwardToken) headers.delete("authorization");
      ctx.ctx["jwt_sub"] = payload.sub;
      return undefined;
    } catch (error) {
      if (!(error instanceof errors.JOSEError) || SERVER_FAULTS.has(error.code)) throw error;
      ctx.response.headers.set("www-authenticate", challenge(conf.realm, error.message));
      return ctx.exit(401, { message: error.message });
    }
  },
});
