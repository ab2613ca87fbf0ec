// Sets a request field from the configuration.
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "bench-route",
  schema: Type.Object({
    tenant: Type.String(),
    limits: Type.Object({ rate: Type.Integer(), burst: Type.Integer() }),
  }),
  access(ctx, { conf }) {
    ctx.request.headers.set("x-tenant", conf.tenant);
  },
});
