/** Reads all that there is to read, and changes nothing. */
import {
  definePlugin,
  type ReadonlyHttpRequest,
  type ReadonlyHttpResponse,
  type RequestContext,
} from "resty-ts";

const NAMES = ["host", "cookie", "x-a", "x_a", "accept-encoding", "via", "range", "content-length"];

function readRequest(request: ReadonlyHttpRequest): unknown[] {
  const { headers, url, query, cookies } = request;
  return [
    request.method,
    request.uri,
    request.originalUri,
    request.path,
    request.scheme,
    request.httpVersion,
    request.remoteAddress,
    url.href,
    url.host,
    [...query],
    query.get("a"),
    [...headers],
    [...headers.keys(), ...headers.values(), ...headers.entries(), ...headers.getSetCookie()],
    headers.size,
    NAMES.map((name) => [headers.get(name), headers.getAll(name), headers.has(name)]),
    Object.entries(cookies),
    cookies["a"],
  ];
}

function readResponse({ status, headers }: ReadonlyHttpResponse): unknown[] {
  return [status, [...headers], NAMES.map((name) => headers.get(name))];
}

async function readAll(ctx: RequestContext): Promise<void> {
  const { request } = ctx;
  readRequest(request);
  readResponse(ctx.response);
  void [{ ...ctx.vars }, { ...ctx.ctx }, ctx.local.size, ctx.signal.aborted];
  const how = request.headers.get("x-read");
  if (how === "bytes") await request.bytes();
  // What is no UTF-8 is the client's mistake.
  else if (how === "text") await request.text().catch(() => undefined);
  else if (how === "stream") for await (const piece of request.body) void piece;
  else if (how === "var") await ctx.var.get("request_uri");
  else if (how === "request" && request.method !== "TRACE") request.toRequest();
}

export default definePlugin({
  name: "reads",
  needs: { vars: ["host", "args", "request_method"], ctx: ["from_lua"] },
  rewrite: readAll,
  access: readAll,
  beforeProxy: readAll,
  headerFilter(ctx) {
    readRequest(ctx.request);
    readResponse(ctx.response);
  },
  log(ctx) {
    readRequest(ctx.request);
    readResponse(ctx.response);
  },
});
