/** Answers with all that it sees of a request, for seen.test.ts. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "reports",
  needs: { vars: ["tag"], ctx: ["lua"] },
  async access(ctx) {
    const { request } = ctx;
    return ctx.exit(200, {
      method: request.method,
      uri: request.uri,
      originalUri: request.originalUri,
      path: request.path,
      query: Object.fromEntries(request.query),
      headers: [...request.headers].filter(([name]) => /^x-/i.test(name)),
      body: await request.text(),
      lua: ctx.ctx["lua"],
      tag: ctx.vars["tag"],
      other: await ctx.var.get("other"),
      scheme: request.scheme,
      httpVersion: request.httpVersion,
    });
  },
});
