// The jwt case as a plugin whose author minds speed: node:crypto, the key made once for a configuration.
import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from "node:crypto";

import { definePlugin, Type } from "resty-ts";

interface Claims {
  readonly sub?: unknown;
  readonly exp?: unknown;
}

const DIGEST_BYTES = 32;

function parse(part: string): unknown {
  try {
    return JSON.parse(Buffer.from(part, "base64url").toString("utf8"));
  } catch {
    return undefined;
  }
}

/** The subject of the token in a field Authorization; undefined when it is not good. */
function subjectOf(authorization: string | null, key: KeyObject): string | undefined {
  if (authorization === null || !authorization.startsWith("Bearer ")) return undefined;
  const first = authorization.indexOf(".", 7);
  const second = authorization.indexOf(".", first + 1);
  if (first < 0 || second < 0) return undefined;

  const signature = Buffer.from(authorization.slice(second + 1), "base64url");
  const digest = createHmac("sha256", key).update(authorization.slice(7, second)).digest();
  if (signature.length !== DIGEST_BYTES || !timingSafeEqual(signature, digest)) return undefined;

  const header = parse(authorization.slice(7, first)) as { alg?: unknown } | null | undefined;
  if (header?.alg !== "HS256") return undefined;
  const claims = parse(authorization.slice(first + 1, second)) as Claims | null | undefined;
  if (typeof claims?.exp !== "number" || claims.exp * 1000 <= Date.now()) return undefined;
  return typeof claims.sub === "string" ? claims.sub : undefined;
}

export default definePlugin({
  name: "bench-jwt",
  schema: Type.Object({ secret: Type.String({ minLength: 32 }) }),
  setup: (conf) => createSecretKey(conf.secret, "utf8"),
  access(ctx, { state: key }) {
    const user = subjectOf(ctx.request.headers.get("authorization"), key);
    if (user === undefined) return ctx.exit(401);
    ctx.request.headers.set("x-user", user);
    return undefined;
  },
});
