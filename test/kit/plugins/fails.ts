/** Fails in the phase that its configuration names, after it has changed something. */
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "fails",
  priority: 5,
  schema: Type.Object({ phase: Type.String(), late: Type.Boolean({ default: false }) }),
  rewrite(ctx, { conf }) {
    if (conf.phase !== "rewrite") return;
    ctx.request.headers.set("X-Half", "1");
    throw new Error("no luck in rewrite");
  },
  async access(ctx, { conf }) {
    if (conf.phase !== "access") return;
    ctx.request.headers.set("X-Half", "1");
    ctx.response.headers.set("X-Half", "1");
    if (conf.late) await ctx.var.get("request_method");
    throw new Error("no luck in access");
  },
  beforeProxy(ctx, { conf }) {
    if (conf.phase !== "beforeProxy") return;
    ctx.request.headers.set("X-Half", "1");
    throw new Error("no luck in beforeProxy");
  },
  headerFilter(ctx, { conf }) {
    if (conf.phase !== "headerFilter") return;
    ctx.response.headers.set("X-Half", "1");
    throw new Error("no luck in headerFilter");
  },
  bodyFilter(_ctx, { conf }) {
    if (conf.phase === "bodyFilter") throw new Error("no luck in bodyFilter");
  },
  delayedBodyFilter(_ctx, { conf }) {
    if (conf.phase === "delayedBodyFilter") throw new Error("no luck in delayedBodyFilter");
  },
});
