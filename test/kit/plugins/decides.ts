import { definePlugin, type RequestContext, Type } from "resty-ts";

const later = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

type Action = (ctx: RequestContext) => unknown;

/** What one handler decides, or how it fails. */
const ACTIONS: Record<string, Action> = {
  async "lone surrogate, 403"(ctx) {
    ctx.ctx["tenant"] = (await ctx.request.json<{ tenant: unknown }>()).tenant;
    return ctx.exit(403);
  },
  "lone surrogate"(ctx) {
    ctx.ctx["tenant"] = "\ud800";
    ctx.ctx["kept"] = "yes";
  },
  "undefined variable"(ctx) {
    ctx.request.headers.set("x-before", "1");
    ctx.var.set("contry", "DE");
  },
  "undefined variable, 403"(ctx) {
    ctx.var.set("contry", "DE");
    return ctx.exit(403);
  },
  "429": (ctx) => ctx.exit(429),
  async "late change"(ctx) {
    await later(100);
    ctx.request.headers.set("x-geo", "late");
    return ctx.exit(403);
  },
  wait: () => later(200),
  "403, then throws"(ctx) {
    ctx.exit(403);
    throw new Error("bad luck");
  },
  async "403, then waits"(ctx) {
    ctx.exit(403);
    await later(1000);
  },
  async "asked, then throws"(ctx) {
    ctx.request.headers.set("x-before", "1");
    ctx.request.headers.delete("x-client");
    ctx.response.headers.set("x-before", "1");
    ctx.request.uri = "/changed?x=1";
    ctx.ctx["before"] = "1";
    ctx.var.set("known", "changed");
    await ctx.var.get("request_method");
    throw new Error("bad luck");
  },
  async "variable refused at a question"(ctx) {
    ctx.request.headers.set("x-before", "1");
    ctx.var.set("contry", "DE");
    await ctx.var.get("request_method");
    ctx.request.headers.set("x-after", "1");
  },
  tells(ctx) {
    const seen = [ctx.request.headers.get("x-before"), ctx.ctx["tenant"] ?? null];
    ctx.request.headers.set("X-Told", JSON.stringify(seen));
  },
};

/** Of the same name but for its end: one file each, as a plugin of a chain is. */
export const decides = (name: string) =>
  definePlugin({
    name,
    schema: Type.Object({ action: Type.String() }),
    access: (ctx, { conf }) => ACTIONS[conf.action]!(ctx) as undefined,
  });

export default decides("decides");
