/** Changes to the response's header. */
import { definePlugin, type HeaderFields, type HeaderFilterContext, Type } from "resty-ts";

const actions: Record<string, (ctx: HeaderFilterContext) => void> = {
  set: ({ response }) => {
    response.headers.set("X-Served-By", "ts");
  },
  "set-in-place": ({ response }) => {
    response.headers.set("x-up", "changed");
  },
  "set-several": ({ response }) => {
    response.headers.set("X-Up", ["1", "2"]);
  },
  append: ({ response }) => {
    response.headers.append("Set-Cookie", "c=3");
  },
  delete: ({ response }) => {
    response.headers.delete("X-Up");
    response.headers.delete("X-Not-There");
  },
  "set-empty": ({ response }) => {
    response.headers.set("X-Up", "");
  },
  type: ({ response }) => {
    response.headers.set("Content-Type", "application/x-own");
  },
  location: ({ response }) => {
    response.headers.set("Location", "/elsewhere");
  },
  status: ({ response }) => {
    response.status = 203;
  },
  "status-204": ({ response }) => {
    response.status = 204;
  },
  length: ({ response }) => {
    response.headers.delete("Content-Length");
  },
  "length-set": ({ response }) => {
    response.headers.set("Content-Length", "1");
  },
  coding: ({ response }) => {
    response.headers.delete("Content-Encoding");
  },
  bytes: ({ response }) => {
    response.headers.set("X-Bytes", `${response.headers.get("x-up")!}\u00e9`);
  },
  sees: ({ request, response }) => {
    const { status, headers } = response;
    const seen = [
      status,
      headers.get("x-up"),
      headers.getAll("set-cookie"),
      headers.get("content-type"),
      headers.get("content-length"),
      headers.has("connection"),
      request.method,
      request.uri,
      request.headers.get("x-b"),
    ];
    headers.set("X-Seen", JSON.stringify(seen));
  },
  request: ({ request }) => {
    (request.headers as HeaderFields).set("x-a", "1");
  },
};

export default definePlugin({
  name: "filters",
  schema: Type.Object({ action: Type.String() }),
  headerFilter: (ctx, { conf }) => {
    actions[conf.action]!(ctx);
  },
});
