/**
 * The Lua file of one plugin: a table for lua/resty/ts/apisix.lua, which makes APISIX's plugin of it.
 *
 * Invariant: whatever texts it is made of, they are Lua strings in it, and nothing else.
 */
import type { JsonObject } from "./schema.js";

export interface LuaRoute {
  readonly methods: readonly string[];
  readonly uris: readonly string[];
}

export interface LuaPlugin {
  /** APISIX's name for it. */
  readonly name: string;
  /** TypeScript's. */
  readonly plugin: string;
  /** Below the plugins' folder. */
  readonly source: string;
  readonly version: string;
  readonly priority: number;
  /** Lua's names, in the order they run. */
  readonly phases: readonly string[];
  /** Whether the content handler runs in access. */
  readonly content: boolean;
  readonly schema: JsonObject;
  readonly consumerSchema: JsonObject | undefined;
  readonly metadataSchema: JsonObject | undefined;
  readonly type: string | undefined;
  readonly runPolicy: string | undefined;
  readonly api: readonly LuaRoute[];
  readonly controlApi: readonly LuaRoute[];
  /** Whether something of it runs once in a worker. */
  readonly worker: boolean;
}

/** The Lua module that takes it. */
const MODULE = "resty.ts.apisix";

/** The first words of each file: by them it is known whose it is. */
const MARK = "-- Written by `resty-ts apisix generate`";

/** Whether a file's text is one of ours. */
export function isGenerated(text: string): boolean {
  return text.startsWith(MARK);
}

export function quoted(text: string): string {
  const safe = text
    .replace(/[\\"]/g, "\\$&")
    // eslint-disable-next-line no-control-regex -- these must not stand in a Lua string
    .replace(/[\x00-\x1f\x7f]/g, (one) => `\\${String(one.charCodeAt(0)).padStart(3, "0")}`);
  return `"${safe}"`;
}

/** A string between long brackets that do not occur in it. Lua leaves out the first line break. */
export function bracketed(text: string): string {
  let level = "==";
  // With a "]" at its end it would close too early, too.
  while (`${text}]`.includes(`]${level}]`)) level += "=";
  return `[${level}[\n${text}]${level}]`;
}

const list = (items: readonly string[]): string =>
  items.length === 0 ? "{}" : `{ ${items.map(quoted).join(", ")} }`;

function routes(all: readonly LuaRoute[]): string {
  const each = all.map(
    ({ methods, uris }) => `        { methods = ${list(methods)}, uris = ${list(uris)} },\n`,
  );
  return `{\n${each.join("")}    }`;
}

export function luaFile(plugin: LuaPlugin): string {
  const { consumerSchema, metadataSchema, type, runPolicy, api, controlApi } = plugin;
  const json = (schema: JsonObject): string => bracketed(JSON.stringify(schema, undefined, 2));
  const fields: [name: string, value: string | undefined | false][] = [
    ["name", quoted(plugin.name)],
    ["plugin", quoted(plugin.plugin)],
    ["version", quoted(plugin.version)],
    ["priority", String(plugin.priority)],
    ["phases", list(plugin.phases)],
    ["content", plugin.content && "true"],
    ["schema", json(plugin.schema)],
    ["consumer_schema", consumerSchema && json(consumerSchema)],
    ["metadata_schema", metadataSchema && json(metadataSchema)],
    ["type", type && quoted(type)],
    ["run_policy", runPolicy && quoted(runPolicy)],
    ["api", api.length > 0 && routes(api)],
    ["control_api", controlApi.length > 0 && routes(controlApi)],
    ["worker", plugin.worker && "true"],
  ];
  const lines = fields
    .filter(([, value]) => value !== undefined && value !== false)
    .map(([name, value]) => `    ${name} = ${String(value)},\n`);
  // A file's name may have a line break, and would go on as Lua.
  const source = plugin.source.replace(/[^\x20-\x7e]/g, "?");
  return (
    `${MARK} from ${source}: do not edit, generate it again.\n` +
    `return require(${quoted(MODULE)}).plugin {\n${lines.join("")}}\n`
  );
}
