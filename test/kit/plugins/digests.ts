/** A body filter that looks and changes nothing. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "digests",
  bodyFilter(ctx) {
    return ctx.last ? ctx.chunk : undefined;
  },
});
