/**
 * Does, in the phase that the request names, the one thing that it names: a row of docs/phases.md.
 * What the phase refuses fails the handler; the test counts that in the error log. The types refuse
 * most of it, too: `Any` has all that some phase has.
 */
import { definePlugin, type BodyFilterContext, type RequestContext } from "resty-ts";

type Any = RequestContext & BodyFilterContext;

function must(holds: boolean, what: string): void {
  if (!holds) throw new Error(`not so: ${what}`);
}

const rows: Record<string, (ctx: Any) => unknown> = {
  "be asynchronous": async () => {
    await Promise.resolve();
  },
  "read the request: method, URI, fields, cookies": ({ request }) => {
    must(request.method === "POST", "method");
    must(request.originalUri.endsWith("?a=1") && request.query.get("a") === "1", "URI");
    must(request.path === "/probe" && request.url.pathname === "/probe", "path");
    must(request.headers.getAll("x-act").length === 1, "fields");
    must(request.cookies["c"] === "d e", "cookies");
  },
  "read the request's body": async ({ request }) => {
    must((await request.text()) === "sent", "body");
  },
  "change the request: method, URI, fields": ({ request }) => {
    request.method = "PUT";
    request.uri = "/changed%2Fa?b=2";
    request.headers.set("x-field", "set");
  },
  "replace the request's body": ({ request }) => {
    request.setBody("changed");
  },
  "answer with `ctx.exit`": (ctx) => ctx.exit(418, "exit"),
  "answer with a `Response`": () => new Response("response", { status: 418 }),
  "read the response's status and fields": ({ response }) => {
    must(Number.isInteger(response.status) && response.headers.get("x-none") === null, "response");
  },
  "set the response's status": ({ response }) => {
    response.status = 299;
  },
  "set the response's fields": ({ response }) => {
    response.headers.set("x-set", "yes");
  },
  "replace pieces of the response's body": () => "replaced",
  "read declared variables, `ctx.vars`": ({ vars }) => {
    must(Number(vars["remote_port"]) > 0, "variable");
  },
  "read any variable, `ctx.var.get`": async (ctx) => {
    must((await ctx.var.get("server_addr")) === "127.0.0.1", "variable");
  },
  "set variables, `ctx.var.set`": (ctx) => {
    ctx.var.set("probe_var", "set");
  },
  "wait for shared dictionaries, `ctx.shared`": async (ctx) => {
    must((await ctx.shared("kept").incr("probe", 1, 0)) >= 1, "counter");
  },
  "use shared dictionaries in `ctx.waitUntil`": (ctx) => {
    const phase = ctx.request.headers.get("x-phase") ?? "";
    ctx.waitUntil(ctx.shared("kept").set(`background ${phase}`, true));
  },
  "make subrequests, `ctx.subrequest`": async (ctx) => {
    const { status, body } = await ctx.subrequest("/sub");
    must(status === 200 && body.length === 3, "answer");
  },
  "choose the upstream, `ctx.setUpstream`": (ctx) => {
    ctx.setUpstream("127.0.0.1", 1);
  },
  "read and set `ctx.ctx`": (ctx) => {
    must(ctx.ctx["set_by_lua"] === "lua", "what Lua has set");
    ctx.ctx["set_by_ts"] = "ts";
  },
  "keep things in `ctx.local`": (ctx) => {
    ctx.local.set("a", () => undefined);
    must(ctx.local.size === 1, "local");
  },
  "hand work to `ctx.waitUntil`": (ctx) => {
    ctx.waitUntil(Promise.resolve());
  },
  "write to the error log, `ctx.log`": (ctx) => {
    ctx.log.notice("probe writes");
  },

  nothing: () => undefined,
  throw: () => {
    throw new Error("thrown by the probe");
  },
  "set and throw": ({ response }) => {
    response.headers.set("x-set", "before it failed");
    throw new Error("thrown by the probe");
  },
  // Ends when all that came before it has been dealt with, microtasks as well.
  barrier: async (ctx) => {
    await new Promise((resolve) => setImmediate(resolve));
    ctx.log.notice(`barrier ${ctx.request.headers.get("x-mark") ?? ""}`);
  },
  "questions together": async (ctx) => {
    await Promise.all([ctx.var.get("server_addr"), ctx.shared("kept").get("probe")]);
  },
  "questions one by one": async (ctx) => {
    await ctx.var.get("server_addr");
    await ctx.shared("kept").get("probe");
  },
};

const act =
  (phase: string) =>
  (ctx: unknown): undefined => {
    const { headers } = (ctx as Any).request;
    if (headers.get("x-phase") !== phase) return undefined;
    const row = rows[headers.get("x-act") ?? ""];
    if (row === undefined) throw new Error(`no row ${headers.get("x-act") ?? ""}`);
    return row(ctx as Any) as undefined;
  };

const content = act("content") as (ctx: unknown) => unknown;

export default definePlugin({
  name: "probe",
  needs: { vars: ["remote_port"], ctx: ["set_by_lua"] },
  rewrite: act("rewrite"),
  access: act("access"),
  beforeProxy: act("beforeProxy"),
  async content(ctx) {
    return ((await content(ctx)) as Response | undefined) ?? new Response("content");
  },
  headerFilter: act("headerFilter"),
  bodyFilter: act("bodyFilter"),
  delayedBodyFilter: act("delayedBodyFilter"),
  log: act("log"),
});
