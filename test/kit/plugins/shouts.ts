/** A body filter that works piece by piece and adds the count at the end. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "shouts",
  bodyFilter(ctx) {
    const before = (ctx.local.get("bytes") as number | undefined) ?? 0;
    const bytes = before + ctx.chunk.length;
    ctx.local.set("bytes", bytes);
    const text = Buffer.from(ctx.chunk).toString("latin1").toUpperCase();
    return Buffer.from(ctx.last ? `${text} (${bytes})` : text, "latin1");
  },
});
