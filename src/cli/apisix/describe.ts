/** What APISIX must know of a plugin without starting Node, read from its definition. */
import { takesPart } from "../../http/phases.js";
import type { ApisixOptions } from "../../sdk/apisix.js";
import type { ConfigSchema, Phase, Plugin } from "../../sdk/plugin.js";
import type { StandardSchemaV1 } from "../../sdk/standard-schema.js";
import type { LuaPlugin, LuaRoute } from "./lua-file.js";
import { nameProblem } from "./names.js";
import { apisixSchema, isObject, type JsonObject } from "./schema.js";

/** In the order they run; `content` runs in access. */
const PHASES: readonly (readonly [handler: Phase, phase: string])[] = [
  ["rewrite", "rewrite"],
  ["access", "access"],
  ["content", "access"],
  ["beforeProxy", "before_proxy"],
  ["headerFilter", "header_filter"],
  ["bodyFilter", "body_filter"],
  ["delayedBodyFilter", "delayed_body_filter"],
  ["log", "log"],
];

/** What runs once in a worker. */
const WORKER_PARTS = ["init", "destroy", "api", "controlApi"] as const;

/** Of a plugin without a schema. */
const NO_CONFIGURATION: JsonObject = { type: "object", additionalProperties: false };

/** Standard Schema's part for JSON Schema, which newer validators have. */
interface JsonSchemaMaker {
  readonly jsonSchema?: { input(options: { target: string }): object };
}

function jsonSchemaOf(
  schema: ConfigSchema,
  where: string,
  problems: string[],
): JsonObject | undefined {
  const { "~standard": standard } = schema as Partial<StandardSchemaV1>;
  if (standard === undefined) return apisixSchema(schema, where, problems);
  const maker = (standard as JsonSchemaMaker).jsonSchema;
  if (maker === undefined) {
    problems.push(
      `${where}: it is a validator of ${standard.vendor} with no JSON Schema in it, and APISIX checks ` +
        "configurations by one: give it as TypeBox (Type.Object …) or as a JSON Schema",
    );
    return undefined;
  }
  try {
    return apisixSchema(maker.input({ target: "draft-07" }), where, problems);
  } catch (error) {
    problems.push(
      `${where}: ${standard.vendor} cannot say it as a JSON Schema of draft 7 ` +
        `(${(error as Error).message}): give it as TypeBox or as a JSON Schema`,
    );
    return undefined;
  }
}

/** Puts each field that APISIX is to encrypt into the schema that has it. */
function markEncrypted(
  fields: readonly string[],
  schemas: readonly JsonObject[],
  problems: string[],
): void {
  for (const field of fields) {
    const [first = ""] = field.split(".");
    const having = schemas.filter(
      ({ properties }) => isObject(properties) && Object.hasOwn(properties, first),
    );
    if (having.length === 0) {
      problems.push(`apisix.encryptFields: no schema has the property ${JSON.stringify(first)}`);
    }
    for (const schema of having) {
      const marked = (schema["encrypt_fields"] ??= []);
      (marked as string[]).push(field);
    }
  }
}

const routesOf = (routes: readonly LuaRoute[] | undefined): LuaRoute[] =>
  (routes ?? []).map(({ methods, uris }) => ({ methods, uris }));

/**
 * @param source its file below the plugins' folder.
 * @returns what its Lua file says, or all that is wrong with it.
 */
export function describePlugin(
  plugin: Plugin,
  source: string,
  prefix: string,
): LuaPlugin | { readonly problems: readonly string[] } {
  const problems: string[] = [];
  const apisix = (plugin.apisix ?? {}) as ApisixOptions;
  const name = prefix + plugin.name;
  const hasMetadata = apisix.metadataSchema !== undefined;
  const wrongName = nameProblem(name, hasMetadata);
  if (wrongName !== undefined) problems.push(wrongName);

  const optional = (given: ConfigSchema | undefined, where: string): JsonObject | undefined =>
    given === undefined ? undefined : jsonSchemaOf(given, where, problems);
  const schema =
    plugin.schema === undefined
      ? structuredClone(NO_CONFIGURATION)
      : jsonSchemaOf(plugin.schema as ConfigSchema, "schema", problems);
  const consumerSchema = optional(apisix.consumerSchema, "apisix.consumerSchema");
  const metadataSchema = optional(apisix.metadataSchema, "apisix.metadataSchema");
  const all = [schema, consumerSchema, metadataSchema].filter((each) => each !== undefined);
  if (problems.length === 0) markEncrypted(apisix.encryptFields ?? [], all, problems);
  if (schema === undefined || problems.length > 0) return { problems };

  const phases = PHASES.filter(([handler]) => takesPart(plugin, handler));
  return {
    name,
    plugin: plugin.name,
    source,
    version: plugin.version ?? "0.0.0",
    priority: plugin.priority ?? 0,
    phases: [...new Set(phases.map(([, phase]) => phase))],
    content: plugin.content !== undefined,
    schema,
    consumerSchema,
    metadataSchema,
    type: apisix.type,
    runPolicy: apisix.runPolicy,
    api: routesOf(apisix.api),
    controlApi: routesOf(apisix.controlApi),
    worker: WORKER_PARTS.some((part) => apisix[part] !== undefined),
  };
}
