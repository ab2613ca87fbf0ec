// The jwt case by way of jose, which is WebCrypto: each signature is checked in libuv's thread pool.
import { createSecretKey } from "node:crypto";

import { jwtVerify } from "jose";
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "bench-jose",
  schema: Type.Object({ secret: Type.String({ minLength: 32 }) }),
  setup: (conf) => createSecretKey(conf.secret, "utf8"),
  async access(ctx, { state: key }) {
    const token = ctx.request.headers.get("authorization")?.slice("Bearer ".length) ?? "";
    try {
      const { payload } = await jwtVerify(token, key, {
        algorithms: ["HS256"],
        requiredClaims: ["exp", "sub"],
      });
      ctx.request.headers.set("x-user", payload.sub ?? "");
      return undefined;
    } catch {
      return ctx.exit(401);
    }
  },
});
