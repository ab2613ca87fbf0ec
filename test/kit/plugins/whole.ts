/** A body filter that gets the whole body at once. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "whole",
  bufferResponse: { maxBytes: 64 },
  bodyFilter(ctx) {
    if (!ctx.last) throw new Error("a piece");
    return `[${ctx.chunk.length}] ${Buffer.from(ctx.chunk).toString("utf8")}`;
  },
});
