/** Changes all of a request, for seen.test.ts: in access, or in the phase that the configuration says. */
import { definePlugin, Type, type RequestContext } from "resty-ts";

async function change(ctx: RequestContext): Promise<void> {
  const { request } = ctx;
  const body = await request.json<{ items: string[] }>();
  request.method = "PUT";
  request.uri = "/new%20path/caf%C3%A9?b=2&c=%26%20x";
  request.headers.set("x-new", "by TypeScript");
  request.headers.set("x-list", ["1", "2"]);
  request.headers.append("x-kept", "and more");
  request.headers.delete("x-old");
  request.setBody(JSON.stringify({ items: [...body.items, "ü"] }));
  ctx.var.set("picked", "blue");
  ctx.ctx["user"] = { name: "ada", roles: ["a", "b"] };
  ctx.response.headers.set("x-early", "set in access");
}

export default definePlugin({
  name: "changes",
  schema: Type.Object({ phase: Type.String({ default: "access" }) }),
  async rewrite(ctx, { conf }) {
    if (conf.phase === "rewrite") await change(ctx);
  },
  async access(ctx, { conf }) {
    if (conf.phase === "access") await change(ctx);
  },
  headerFilter(ctx) {
    // What Lua has set in the header filter before this, and what this plugin has kept.
    const user = ctx.ctx["user"] as { name: string } | undefined;
    const lua = ctx.response.headers.get("x-lua") ?? "";
    ctx.response.headers.set("x-typescript", `${user?.name ?? ""} after ${lua}`);
    ctx.response.headers.delete("x-secret");
  },
});
