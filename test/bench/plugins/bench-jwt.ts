// The jwt case as a plugin.
import { createSecretKey } from "node:crypto";

import { definePlugin, Type } from "resty-ts";

import { subjectOf } from "../hs256.ts";

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
