/** State from phase to phase: ngx.ctx, ctx.local, variables; told in the log phase. */
import { definePlugin } from "resty-ts";

/** Lua gives keys in no order. */
const sorted = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) =>
    typeof item === "object" && item !== null && !Array.isArray(item)
      ? Object.fromEntries(Object.entries(item).sort())
      : item,
  );

export default definePlugin({
  name: "keeps",
  needs: { vars: ["color", "arg_q", "unset_one", "status"], ctx: ["from_lua"] },
  rewrite(ctx) {
    ctx.ctx["trail"] = ["rewrite"];
    ctx.ctx["gone"] = 1;
    ctx.local.set("map", new Map([["n", 1]]));
    ctx.local.set("begun", Date.now());
    ctx.var.set("color", "blue \u00e9");
  },
  async access(ctx) {
    (ctx.ctx["trail"] as string[]).push("access");
    delete ctx.ctx["gone"];
    ctx.ctx["mixed"] = { a: 1.5, b: [true, null, "x"], c: { d: undefined }, e: -0 };
    ctx.request.headers.set(
      "X-Vars",
      JSON.stringify([ctx.vars, ctx.ctx["from_lua"], await ctx.var.get("request_uri")]).replace(
        /[^ -~]/g,
        "?",
      ),
    );
  },
  headerFilter(ctx) {
    (ctx.ctx["trail"] as string[]).push("headerFilter");
    ctx.response.headers.set("X-Trail", sorted(ctx.ctx));
  },
  bodyFilter(ctx) {
    if (ctx.last) (ctx.ctx["trail"] as string[]).push("bodyFilter");
  },
  log(ctx) {
    const n = (ctx.local.get("map") as Map<string, number>).get("n");
    const took = ctx.endTime - (ctx.local.get("begun") as number);
    const near = Number.isInteger(took) && Math.abs(took) < 60_000;
    ctx.log.notice(
      JSON.stringify([ctx.ctx["trail"], n, ctx.response.status, ctx.vars["color"], near]),
    );
  },
});
