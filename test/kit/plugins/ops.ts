/** Does what the request's field X-Ops says: for cases that are made up at random. */
import {
  definePlugin,
  type HeaderFields,
  type ReadonlyHeaderFields,
  type RequestContext,
} from "resty-ts";

/** [what, arguments …], by phase. */
export type Op = readonly [string, ...(string | number | readonly string[])[]];
export interface Ops {
  readonly access: readonly Op[];
  readonly headerFilter: readonly Op[];
}

function opsOf(headers: ReadonlyHeaderFields): Ops {
  const given = headers.get("x-ops");
  if (given === null) return { access: [], headerFilter: [] };
  return JSON.parse(Buffer.from(given, "base64").toString()) as Ops;
}

function edit(headers: HeaderFields, [, , name, value]: readonly unknown[], how: string): void {
  if (how === "delete") headers.delete(name as string);
  else if (how === "set") headers.set(name as string, value as string | string[]);
  else headers.append(name as string, value as string);
}

function inAccess(ctx: RequestContext, op: Op): unknown {
  const [what, first] = op;
  switch (what) {
    case "request":
      return edit(ctx.request.headers, op, first as string);
    case "response":
      return edit(ctx.response.headers, op, first as string);
    case "method":
      return (ctx.request.method = first as string);
    case "uri":
      return (ctx.request.uri = first as string);
    case "path":
      return (ctx.request.path = first as string);
    case "query":
      return ctx.request.query.set(first as string, op[2] as string);
    case "body":
      return ctx.request.setBody(first as string);
    default:
      return undefined;
  }
}

export default definePlugin({
  name: "ops",
  access(ctx) {
    const { access } = opsOf(ctx.request.headers);
    for (const op of access) {
      if (op[0] === "exit") return ctx.exit(op[1] as number, op[2] as string);
      if (op[0] === "answer") return new Response(op[2] as string, { status: op[1] as number });
      inAccess(ctx, op);
    }
    return undefined;
  },
  headerFilter(ctx) {
    for (const op of opsOf(ctx.request.headers).headerFilter) {
      if (op[0] === "status") ctx.response.status = op[1] as number;
      else edit(ctx.response.headers, op, op[1] as string);
    }
  },
});
