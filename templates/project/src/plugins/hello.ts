import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "hello",
  version: "0.1.0",
  schema: Type.Object({ greeting: Type.String({ minLength: 1, default: "Hello" }) }),

  access(ctx, { conf }) {
    const name = ctx.request.query.get("name") ?? "world";
    return Response.json({ text: `${conf.greeting}, ${name}!` });
  },

  responseHeaders: () => ({ "x-served-by": "hello" }),
});
