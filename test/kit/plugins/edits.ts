/** Changes to the request, one by its name in the configuration, in rewrite or access. */
import { definePlugin, type RequestContext, Type } from "resty-ts";

const actions: Record<string, (ctx: RequestContext) => unknown> = {
  nothing: () => undefined,
  set: ({ request }) => request.headers.set("X-New", "1"),
  "set-in-place": ({ request }) => request.headers.set("x-b", "two"),
  "set-several": ({ request }) => request.headers.set("X-B", ["1", "2", "3"]),
  append: ({ request }) => request.headers.append("X-B", "3"),
  delete: ({ request }) => request.headers.delete("x-b"),
  "set-empty": ({ request }) => request.headers.set("X-B", ""),
  "set-none": ({ request }) => request.headers.set("X-B", []),
  "bytes-in-value": ({ request }) => request.headers.set("X-Bytes", "caf\u00e9 \u00ff"),
  "copy-value": ({ request }) => request.headers.set("X-Copy", request.headers.get("x-bytes")!),
  host: ({ request }) => request.headers.set("X-Host", request.headers.get("HOST")!),
  fields: ({ request }) =>
    request.headers.set(
      "X-Seen",
      [...request.headers]
        .filter(([name]) => name.startsWith("X"))
        .map((pair) => pair.join("="))
        .join(" | "),
    ),
  cookies: ({ request }) => request.headers.set("X-Seen", JSON.stringify(request.cookies)),
  method: ({ request }) => (request.method = "PUT"),
  "method-head": ({ request }) => (request.method = "HEAD"),
  "method-unknown": ({ request }) => (request.method = "PURGE"),
  "uri-path": ({ request }) => (request.uri = "/new"),
  "uri-query": ({ request }) => (request.uri = "/new?x=1&y=%20"),
  "uri-escapes": ({ request }) => (request.uri = "/a%20b/%C3%A9%25?q=%2F"),
  "uri-slash": ({ request }) => (request.uri = "/a%2Fb"),
  "uri-utf8": ({ request }) => (request.uri = "/caf\u00e9?x=%C3%A9"),
  "uri-more": ({ request }) => (request.uri += "?t=7"),
  "uri-under": ({ request }) => (request.uri = `/up${request.uri}`),
  "uri-back": ({ request }) => {
    const { uri } = request;
    request.uri = "/elsewhere?x=1";
    request.uri = uri;
  },
  path: ({ request }) => (request.path = "/v2/a b"),
  "path-under": ({ request }) => (request.path = `/v2${request.path}`),
  "query-text": ({ request }) => (request.query = "b=%2f&c"),
  "query-record": ({ request }) => (request.query = { a: "1 2", b: "&" }),
  "query-none": ({ request }) => (request.query = ""),
  "query-set": ({ request }) => request.query.set("tenant", "7"),
  "query-append": ({ request }) => request.query.append("tenant", "7"),
  "query-delete": ({ request }) => request.query.delete("tenant"),
  "url-set": ({ request }) => (request.url.pathname = "/x"),
  "url-query": ({ request }) => request.url.searchParams.set("x", "y"),
  "uri-bad": ({ request }) => (request.uri = "no slash"),
  body: ({ request }) => request.setBody("replaced"),
  "body-bytes": ({ request }) => request.setBody(Uint8Array.of(0, 255, 128, 10)),
  "body-empty": ({ request }) => request.setBody(""),
  url: ({ request: { uri, originalUri, path, url, headers } }) => {
    // Fields are bytes.
    const bytes = Buffer.from(path, "utf8").toString("latin1");
    const seen = [uri, originalUri, bytes, url.href.replace(/^http:..[^/]*/, "")];
    headers.set("X-Seen", JSON.stringify(seen));
  },
  query: ({ request: { method, scheme, httpVersion, query, headers } }) =>
    headers.set("X-Seen", JSON.stringify([method, scheme, httpVersion, [...query]])),
  "bad-name": ({ request }) => request.headers.set("bad name", "x"),
  "bad-value": ({ request }) => request.headers.set("x-a", "a\r\nb: c"),
  "hop-by-hop": ({ request }) => request.headers.set("Transfer-Encoding", "chunked"),
  "length-set": ({ request }) => request.headers.set("Content-Length", "1"),
  "length-append": ({ request }) => request.headers.append("content-length", "1"),
  "length-delete": ({ request }) => request.headers.delete("content-length"),
  "length-and-body": ({ request }) => {
    request.setBody("caf\u00e9");
    request.headers.set("content-length", "4");
  },
  expect: ({ request }) => request.headers.set("Expect", "100-continue"),
  "expect-delete": ({ request }) => request.headers.delete("expect"),
  upstream: (ctx) => ctx.setUpstream("127.0.0.1", 70_000),
  "response-early": ({ response }) => {
    response.headers.set("X-Early", "1");
    response.headers.append("Set-Cookie", "early=1");
  },
};

export default definePlugin({
  name: "edits",
  schema: Type.Object({ action: Type.String(), phase: Type.String({ default: "access" }) }),
  rewrite: (ctx, { conf }) => {
    if (conf.phase === "rewrite") actions[conf.action]!(ctx);
  },
  access: (ctx, { conf }) => {
    if (conf.phase === "access") actions[conf.action]!(ctx);
  },
});
