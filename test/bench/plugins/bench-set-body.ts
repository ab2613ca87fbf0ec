// Replaces the request's body.
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "bench-set-body",
  schema: Type.Object({ bytes: Type.Integer() }),
  setup: ({ bytes }) => "x".repeat(bytes),
  access(ctx, { state: body }) {
    ctx.request.setBody(body);
  },
});
