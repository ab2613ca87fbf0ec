/** Makes the one change that the request's field X-Edit names. */
import {
  definePlugin,
  type HeaderFields,
  type ReadonlyHeaderFields,
  type RequestContext,
} from "resty-ts";
import type { Edit } from "../edits.ts";

function editOf(headers: ReadonlyHeaderFields): Edit | undefined {
  const given = headers.get("x-edit");
  if (given === null) return undefined;
  return JSON.parse(Buffer.from(given, "base64").toString()) as Edit;
}

function editFields(headers: HeaderFields, how: string, name: string, value: string): void {
  if (how === "delete") headers.delete(name);
  else if (how === "set") headers.set(name, value);
  else headers.append(name, value);
}

/** Sets what was read. */
function setAgain(request: RequestContext["request"], what: string): void {
  if (what === "method") {
    // nginx sets those that it knows.
    if (/^(GET|PUT|POST|DELETE|OPTIONS)$/.test(request.method))
      request.method = `${request.method}`;
  } else if (what === "uri") request.uri = `${request.uri}`;
  else if (what === "path") request.path = `${request.path}`;
  else if (what === "query") Object.assign(request, { query: request.query });
  else {
    const values = request.headers.getAll(what);
    if (values.length > 0) request.headers.set(what, values);
  }
}

async function editRequest(ctx: RequestContext, phase: Edit["phase"]): Promise<void> {
  const { request } = ctx;
  const edit = editOf(request.headers);
  if (edit?.phase !== phase) return;
  switch (edit.what) {
    case "field":
      editFields(request.headers, edit.how, edit.name, edit.value);
      break;
    case "query":
      if (edit.how === "delete") request.query.delete(edit.name);
      else if (edit.how === "set") request.query.set(edit.name, edit.value);
      else request.query.append(edit.name, edit.value);
      break;
    case "path":
    case "uri":
    case "method":
      if (edit.what !== "method" || request.method !== "HEAD") {
        Reflect.set(request, edit.what, edit.value);
      }
      break;
    case "same":
      setAgain(request, edit.name);
      break;
    case "kept":
      ctx.ctx["kept"] = edit.value;
      ctx.local.set("kept", edit.value);
      await ctx.shared("kept").set("kept", edit.value);
      break;
    case "variable":
      ctx.var.set("edited", edit.value);
      break;
    case "refused":
      try {
        editFields(request.headers, edit.how, edit.name, edit.value);
      } catch {
        // That it is refused is what it is for.
      }
      break;
    case "response":
      break;
  }
}

export default definePlugin({
  name: "edits",
  priority: 10,
  rewrite: (ctx) => editRequest(ctx, "rewrite"),
  access: (ctx) => editRequest(ctx, "access"),
  beforeProxy: (ctx) => editRequest(ctx, "beforeProxy"),
  headerFilter(ctx) {
    const edit = editOf(ctx.request.headers);
    if (edit?.what !== "response") return;
    editFields(ctx.response.headers, edit.how, edit.name, edit.value);
  },
});
