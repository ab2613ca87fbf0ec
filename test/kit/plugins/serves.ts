/** Answers in place of an upstream. */
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "serves",
  schema: Type.Object({ action: Type.String() }),
  async content(ctx, { conf }) {
    switch (conf.action) {
      case "echo":
        return new Response(await ctx.request.bytes(), { headers: { "X-Served": "1" } });
      case "exit":
        return ctx.exit(418, "short and stout");
      case "nothing":
        return undefined as never;
      default:
        throw new Error("nothing to serve");
    }
  },
});
