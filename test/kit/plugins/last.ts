/** Has the phases that come after others of their kind: beforeProxy and delayedBodyFilter. */
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "last",
  // The first of its chain, and yet the last.
  priority: 100,
  schema: Type.Object({ answers: Type.Boolean({ default: false }) }),
  async beforeProxy(ctx, { conf }) {
    const { request } = ctx;
    const method = (await ctx.var.get("request_method")) ?? "";
    const order = request.headers.get("x-order") ?? "none";
    request.headers.set("X-Last", `${method} ${request.uri} ${order}`);
    ctx.response.headers.append("X-Order", "last");
    ctx.ctx["last"] = "here";
    if (conf.answers) return ctx.exit(403, "no further");
    return undefined;
  },
  delayedBodyFilter(ctx) {
    const kept = `${String(ctx.ctx["last"])} ${ctx.response.headers.get("x-up") ?? ""}`;
    return `${Buffer.from(ctx.chunk).toString("latin1").toLowerCase()}${ctx.last ? ` ${kept}` : ""}`;
  },
});
