/** Looks at each piece of the response's body, and changes nothing. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "watches",
  bodyFilter(ctx) {
    ctx.local.set("bytes", ((ctx.local.get("bytes") ?? 0) as number) + ctx.chunk.length);
  },
  delayedBodyFilter(ctx) {
    ctx.local.set("delayed", ctx.chunk.length);
  },
});
