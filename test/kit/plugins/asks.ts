/** Questions to nginx; what they bring, or how they fail, goes to the client. */
import { definePlugin, type RequestContext, Type } from "resty-ts";

async function outcome(work: Promise<unknown>): Promise<unknown> {
  try {
    return (await work) ?? null;
  } catch (error) {
    return String((error as Error).message).replace(/^.*\.lua:\d+: /, "");
  }
}

const actions: Record<string, (ctx: RequestContext) => Promise<unknown>> = {
  async strings(ctx) {
    const dict = ctx.shared("counts");
    await dict.set("s", "caf\u00e9");
    await dict.set("n", 1.5);
    await dict.set("b", true);
    const values = [await dict.get("s"), await dict.get("n"), await dict.get("b")];
    await dict.delete("s");
    return [...values, await dict.get("s"), await dict.ttl("n"), await dict.ttl("s")];
  },
  async incr(ctx) {
    const dict = ctx.shared("counts");
    await dict.delete("c");
    return [
      await outcome(dict.incr("c", 1)),
      await dict.incr("c", 2, 10),
      await dict.incr("c", -0.5),
      await dict.set("c", "text"),
      await outcome(dict.incr("c", 1)),
    ].map((value) => value ?? null);
  },
  async add(ctx) {
    const dict = ctx.shared("counts");
    await dict.delete("a");
    return [await dict.add("a", 1), await dict.add("a", 2), await dict.get("a")];
  },
  async lists(ctx) {
    const dict = ctx.shared("counts");
    await dict.delete("l");
    return [
      await dict.lpush("l", "b"),
      await dict.lpush("l", "a"),
      await dict.rpush("l", 3),
      await dict.llen("l"),
      await outcome(dict.get("l")),
      await outcome(dict.incr("l", 1)),
      await dict.lpop("l"),
      await dict.rpop("l"),
      await dict.rpop("l"),
      await dict.rpop("l"),
      await dict.llen("l"),
      await dict.set("l", 1),
      await outcome(dict.lpush("l", 1)),
      await outcome(dict.llen("l")),
    ].map((value) => value ?? null);
  },
  async keys(ctx) {
    const dict = ctx.shared("counts");
    return [
      await outcome(dict.get("")),
      await outcome(dict.set("", 1)),
      String(await outcome(dict.get("k".repeat(65_536)))).slice(-12),
      await outcome(dict.set("k", 1, -1)),
    ];
  },
  "no-dict": async (ctx) =>
    (String(await outcome(ctx.shared("nowhere").get("x"))).match(/^[^:]*/) ?? [])[0],
  vars: async (ctx) => [
    await ctx.var.get("request_method"),
    await ctx.var.get("arg_x"),
    (await ctx.var.get("not_defined")) ?? null,
    await ctx.var.get("http_x_b"),
    await ctx.var.get("cookie_c"),
    await ctx.var.get("is_args"),
    await ctx.var.get("args"),
    await ctx.var.get("uri"),
    await ctx.var.get("scheme"),
    await ctx.var.get("server_protocol"),
    await ctx.var.get("status"),
    await ctx.var.get("https"),
    await ctx.var.get("content_type"),
  ],
  async together(ctx) {
    const dict = ctx.shared("counts");
    await dict.delete("t");
    return Promise.all([
      dict.incr("t", 1, 0),
      dict.incr("t", 1, 0),
      ctx.var.get("uri"),
      ctx.request.text(),
    ]);
  },
  async subrequest(ctx) {
    const { status, headers, body } = await ctx.subrequest("/inner?a=1", { args: "b=2" });
    const fields = [headers.get("x-inner"), headers.get("X-Several"), headers.getSetCookie()];
    return [status, ...fields, Buffer.from(body).toString()];
  },
  async "subrequest-post"(ctx) {
    const { status, body } = await ctx.subrequest("/inner", { method: "POST", body: "sent" });
    return [status, Buffer.from(body).toString()];
  },
  async "subrequest-bare"(ctx) {
    if (ctx.request.query.has("read")) await ctx.request.bytes();
    const seen: string[] = [];
    for (const method of ["GET", "POST", "PUT", "PATCH", "DELETE"]) {
      const { body } = await ctx.subrequest("/inner", { method });
      seen.push(Buffer.from(body).toString());
    }
    return seen;
  },
  async "subrequest-head"(ctx) {
    const { status, headers, body } = await ctx.subrequest("/inner", { method: "HEAD" });
    return [status, headers.get("content-length"), body.length];
  },
  "subrequest-method": (ctx) => outcome(ctx.subrequest("/inner", { method: "PURGE" })),
  async "set-unknown"(ctx) {
    ctx.var.set("never_defined", "x");
    return outcome(ctx.var.get("uri"));
  },
  async "set-builtin"(ctx) {
    ctx.var.set("request_method", "x");
    return outcome(ctx.var.get("uri"));
  },
  async "set-args"(ctx) {
    ctx.var.set("args", "new=1");
    return [await ctx.var.get("args"), await ctx.var.get("arg_new"), await ctx.var.get("uri")];
  },
};

export default definePlugin({
  name: "asks",
  schema: Type.Object({ action: Type.String() }),
  async access(ctx, { conf }) {
    return Response.json(await actions[conf.action]!(ctx));
  },
});
