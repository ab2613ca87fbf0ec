/**
 * Changes what comes back: status, header fields, and the body by regular expressions or by edits
 * of its JSON.
 *
 *     location /api {
 *       access_by_lua_block        { require("resty.ts.http").access("response-rewrite", {
 *                                      status = { ["404"] = 200 }, remove = { "server" },
 *                                      json = { { path = "/user/password", remove = true } } }) }
 *       header_filter_by_lua_block { require("resty.ts.http").header_filter("response-rewrite") }
 *       body_filter_by_lua_block   { require("resty.ts.http").body_filter("response-rewrite") }
 *       proxy_pass http://backend;
 *     }
 *
 * There is nothing to do in access but to be ready: it waits until the configuration is loaded, which
 * the filters cannot, and has the upstream asked for the whole body, not compressed. One that comes
 * compressed all the same is decoded. The body is collected up to 1 MiB; a longer one goes by as it
 * is, and the error log says so; with `on_error = "closed"` in a chain the connection is cut instead.
 */
import { brotliDecompressSync, gunzipSync, inflateSync } from "node:zlib";
import { definePlugin, Type, type Static } from "resty-ts";

const Replacement = Type.Object({
  pattern: Type.String({ description: "A JavaScript regular expression" }),
  flags: Type.String({ default: "g", pattern: "^[dgimsuy]*$" }),
  with: Type.String({ description: "What comes in its place; $1 is the first group" }),
});

const Edit = Type.Object({
  path: Type.String({ pattern: "^(/|$)", description: "A JSON Pointer (RFC 6901)" }),
  value: Type.Optional(Type.Unknown({ description: "What is set there" })),
  remove: Type.Boolean({ default: false }),
});

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

function isJson(type: string): boolean {
  return /^application\/(?:[^;]+\+)?json\b/i.test(type);
}

function isText(type: string): boolean {
  return isJson(type) || /^(?:text\/|application\/(?:xml|javascript))/i.test(type);
}

const MAX_BYTES = 1_048_576;
const BOUNDED = { maxOutputLength: MAX_BYTES };

const DECODERS: ReadonlyMap<string, (body: Uint8Array) => Uint8Array> = new Map([
  ["identity", (body) => body],
  ["gzip", (body) => gunzipSync(body, BOUNDED)],
  ["deflate", (body) => inflateSync(body, BOUNDED)],
  ["br", (body) => brotliDecompressSync(body, BOUNDED)],
]);
/** In ctx.local: the coding that the body comes in. */
const CODING = Symbol("response-rewrite");

/** Sets or removes what a JSON Pointer points to; where there is no such place, nothing. */
function edit(root: unknown, { path, value: given, remove }: Static<typeof Edit>): unknown {
  const value: unknown = structuredClone(given);
  const keys = path
    .split("/")
    .slice(1)
    .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"));
  const last = keys.pop();
  if (last === undefined) return remove ? null : value;
  let at: unknown = root;
  for (const key of keys) {
    if (typeof at !== "object" || at === null || !Object.hasOwn(at, key)) return root;
    at = (at as Record<string, unknown>)[key];
  }
  if (Array.isArray(at)) {
    const index = last === "-" ? at.length : Number(last);
    if (Number.isInteger(index) && index >= 0) at.splice(index, 1, ...(remove ? [] : [value]));
  } else if (typeof at === "object" && at !== null) {
    if (remove) Reflect.deleteProperty(at, last);
    else
      Object.defineProperty(at, last, {
        value,
        writable: true,
        enumerable: true,
        configurable: true,
      });
  }
  return root;
}

export default definePlugin({
  name: "response-rewrite",
  version: "1.0.0",
  priority: 899,
  schema: Type.Object({
    status: Type.Record(
      Type.String({ pattern: "^[2-5]\\d\\d$" }),
      Type.Integer({ minimum: 200, maximum: 599 }),
      {
        default: {},
        description: "Statuses of the upstream to those that the client gets",
      },
    ),
    set: Type.Record(Type.String(), Type.String(), { default: {}, description: "Fields to set" }),
    append: Type.Record(Type.String(), Type.String(), {
      default: {},
      description: "Fields to add",
    }),
    remove: Type.Array(Type.String(), { default: [], description: "Fields to remove" }),
    replace: Type.Array(Replacement, { default: [], description: "In text bodies, in this order" }),
    json: Type.Array(Edit, { default: [], description: "In JSON bodies, before `replace`" }),
  }),
  bufferResponse: { maxBytes: MAX_BYTES },

  responseHeaders: ({ set, remove }) => ({
    ...Object.fromEntries(remove.map((name) => [name, null])),
    ...set,
  }),

  setup(conf) {
    return conf.replace.map(({ pattern, flags, with: text }) => ({
      pattern: new RegExp(pattern, flags),
      text,
    }));
  },

  headerFilter(ctx, { conf }) {
    const { response } = ctx;
    const status = conf.status[String(response.status)];
    if (status !== undefined) response.status = status;
    for (const [name, value] of Object.entries(conf.append)) response.headers.append(name, value);
    if (conf.replace.length + conf.json.length === 0) return;
    if (!isText(response.headers.get("content-type") ?? "")) return;
    // They name the upstream's body, and this is another one.
    for (const name of ["etag", "last-modified"]) response.headers.delete(name);
    const coding = response.headers.get("content-encoding")?.toLowerCase();
    if (coding === undefined || !DECODERS.has(coding)) return;
    response.headers.delete("content-encoding");
    ctx.local.set(CODING, coding);
  },

  bodyFilter(ctx, { conf, state: replacements }) {
    const type = ctx.response.headers.get("content-type") ?? "";
    if (ctx.chunk.length === 0 || !isText(type)) return undefined;
    if (conf.replace.length + conf.json.length === 0) return undefined;
    const decode = DECODERS.get((ctx.local.get(CODING) as string | undefined) ?? "identity")!;
    let text = decoder.decode(decode(ctx.chunk));
    if (conf.json.length > 0 && isJson(type)) {
      text = JSON.stringify(conf.json.reduce<unknown>(edit, JSON.parse(text)));
    }
    for (const replacement of replacements) {
      text = text.replace(replacement.pattern, replacement.text);
    }
    return text;
  },
});
