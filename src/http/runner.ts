/**
 * Plugins written for the community's JavaScript runner of APISIX: a class, or an object, with
 * filter(conf, request, response). They become plugins with a rewrite handler.
 *
 * Thread: the environment's own. Invariant: what a filter does not touch goes on as it came, byte by
 * byte.
 */
import { RestyTsError } from "../sdk/errors.js";
import type { Exit, RequestContext } from "../sdk/http.js";
import type { Plugin } from "../sdk/plugin.js";
import type { StandardResult, StandardSchemaV1 } from "../sdk/standard-schema.js";
import { RunnerRequest } from "./runner-request.js";
import { isHopByHop } from "./field-names.js";

/** What such a file exports, or what `new` makes of it. */
interface Filter {
  getName?(): unknown;
  parseConf?(text: string): unknown;
  filter(conf: unknown, request: RunnerRequest, response: RunnerResponse): unknown;
}

/** Map, Headers, and anything like them; or a plain object. */
type RunnerFields =
  { keys(): Iterable<string>; get(name: string): unknown } | Readonly<Record<string, unknown>>;

/** What a filter answers with, as soon as it has set any of it. */
interface RunnerResponse {
  status?: number | null;
  headers?: RunnerFields | null;
  body?: string | Uint8Array | null;
}

const adapted = new WeakSet<Plugin>();

/** Whether its configuration is the hook's text as it is: parseConf is for that. */
export function takesText(plugin: Plugin): boolean {
  return adapted.has(plugin);
}

type Exported = Filter | (new () => Filter);

/** @param value a file's default export. */
export function isRunnerPlugin(value: unknown): value is Exported {
  if (typeof value === "function") {
    const { prototype } = value as { prototype?: { filter?: unknown } };
    return typeof prototype?.filter === "function";
  }
  // What has a name was meant for definePlugin, which tells that it has no `filter`.
  const { filter, name } = (value ?? {}) as { filter?: unknown; name?: unknown };
  return typeof filter === "function" && name === undefined;
}

function made(exported: Exported, name: string): Filter {
  if (typeof exported !== "function") return exported;
  try {
    return new exported();
  } catch (error) {
    const text = `${name}: \`new\` of its class failed: ${messageOf(error)}`;
    throw new RestyTsError("bad_plugin", text, { cause: error });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** A schema, so that what parseConf throws is a configuration's mistake. */
function schemaOf(filter: Filter): StandardSchemaV1 {
  return {
    "~standard": {
      version: 1,
      vendor: "resty-ts",
      async validate(given): Promise<StandardResult<unknown>> {
        // It is a text in a hook, and whatever Lua has given anywhere else.
        const text = typeof given === "string" ? given : JSON.stringify(given);
        if (filter.parseConf === undefined) return { value: text };
        try {
          return { value: await filter.parseConf(text) };
        } catch (error) {
          return { issues: [{ message: `parseConf failed: ${messageOf(error)}` }] };
        }
      },
    },
  };
}

function pairsOf(fields: RunnerFields): [string, unknown][] {
  // Fetch's Headers, of another undici, too: get joins what cannot be taken apart again.
  const { getSetCookie } = fields as { getSetCookie?: unknown };
  if (typeof getSetCookie === "function") {
    const headers = fields as Headers;
    const cookies = headers.getSetCookie();
    const others = [...headers].filter(([name]) => name !== "set-cookie");
    return cookies.length === 0 ? others : [...others, ["set-cookie", cookies]];
  }
  const { keys, get } = fields as { keys?: unknown; get?: unknown };
  if (typeof keys === "function" && typeof get === "function") {
    const map = fields as { keys(): Iterable<string>; get(name: string): unknown };
    return [...map.keys()].map((name) => [name, map.get(name)]);
  }
  return Object.entries(fields);
}

/** Text as a field's value has it: the bytes of its UTF-8. */
function byteString(value: unknown): string {
  return Buffer.from(String(value), "utf8").toString("latin1");
}

/** As the runner has it: an empty text is nothing. */
function isAnswer({ status, headers, body }: RunnerResponse): boolean {
  return Boolean(status) || Boolean(headers) || Boolean(body);
}

function answer(ctx: RequestContext, { status, headers, body }: RunnerResponse): Exit {
  for (const [name, value] of headers ? pairsOf(headers) : []) {
    // These are nginx's, and a runner's APISIX lets them be named.
    if (isHopByHop(name.toLowerCase()) || name.toLowerCase() === "content-length") continue;
    if (value === undefined || value === null) continue;
    const values = Array.isArray(value) ? (value as unknown[]) : [value];
    ctx.response.headers.set(name, values.map(byteString));
  }
  return ctx.exit(status || 200, body ?? undefined);
}

/**
 * @param name the file's, by which it is listed.
 * @throws {RestyTsError} "bad_plugin".
 */
export function runnerPlugin(exported: Exported, name: string): Plugin {
  const filter = made(exported, name);
  const own: unknown = filter.getName?.();
  if (own !== undefined && own !== name) {
    const text = `${name}: its getName() is ${JSON.stringify(own)}, and its file is ${name}`;
    throw new RestyTsError("bad_plugin", text);
  }
  const plugin: Plugin = {
    name,
    schema: schemaOf(filter),
    async rewrite(ctx, { conf }) {
      const request = new RunnerRequest(ctx);
      const response: RunnerResponse = {};
      await filter.filter(conf, request, response);
      if (isAnswer(response)) return answer(ctx, response);
      request.apply();
      return undefined;
    },
  };
  adapted.add(plugin);
  return plugin;
}
