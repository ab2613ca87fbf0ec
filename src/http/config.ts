/**
 * Configurations against their schema: JSON Schema (TypeBox's or plain) by Ajv, anything else by
 * its own Standard Schema validator.
 */
import { createHash } from "node:crypto";
import { Ajv, type ErrorObject, type ValidateFunction } from "ajv";
import { Ajv2020 } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";
import { RestyTsError } from "../sdk/errors.js";
import type { Plugin } from "../sdk/plugin.js";
import type { StandardIssue, StandardSchemaV1 } from "../sdk/standard-schema.js";
import { putArray } from "./empty-tables.js";
import { dropPrototypes } from "./own-properties.js";
import { takesText } from "./runner.js";

const OPTIONS = { allErrors: true, useDefaults: true, strict: false, verbose: true } as const;
const MAX_TOLD = 5;
const MOST_RIGHT = 256;
const NO_SCHEMA = "the plugin has no schema, so it takes no configuration";

type Schema = Readonly<Record<string, unknown>>;

// ajv-formats is CommonJS: its default export is on `default` for some loaders.
const withFormats = ((addFormats as { default?: unknown }).default ?? addFormats) as (
  ajv: Ajv,
) => Ajv;

/** Checks schemas themselves: what it takes for that is made once. */
let metaAjv: Ajv | undefined;
let metaAjv2020: Ajv | undefined;
/** Schemas that are right, by `nameOf`. */
const right = new Set<string>();
let tellRight: (name: string) => void = () => undefined;
const compiled = new WeakMap<object, ValidateFunction>();

/** The same for the same schema, in any environment. */
function nameOf(schema: Schema): string {
  return createHash("sha256").update(JSON.stringify(schema)).digest("base64");
}

/**
 * Checking a schema takes what is to be made first, and most of an environment's start.
 * @param names of schemas that an environment before has found right. @param tell gets others.
 */
export function knowSchemas(names: readonly string[], tell: (name: string) => void): void {
  for (const name of names) right.add(name);
  tellRight = tell;
}

/** @throws {Error} when it is none. */
function checkItself(schema: Schema, is2020: boolean): void {
  const name = nameOf(schema);
  if (right.has(name)) return;
  const meta = is2020 ? (metaAjv2020 ??= new Ajv2020(OPTIONS)) : (metaAjv ??= new Ajv(OPTIONS));
  void meta.validateSchema(schema, true); // throws: it waits for none of the meta-schemas
  if (right.size >= MOST_RIGHT) return; // it is checked each time
  right.add(name);
  tellRight(name);
}

function compile(schema: Schema): ValidateFunction {
  let validate = compiled.get(schema);
  if (validate === undefined) {
    const is2020 = typeof schema["$schema"] === "string" && schema["$schema"].includes("2020-12");
    checkItself(schema, is2020);
    // Of its own: an Ajv keeps all schemas that it has compiled, and takes no second one of an $id.
    const options = { ...OPTIONS, validateSchema: false };
    validate = withFormats(is2020 ? new Ajv2020(options) : new Ajv(options)).compile(schema);
    compiled.set(schema, validate);
  }
  return validate;
}

/** "/limits/0/max" as its steps. */
function stepsOf({ instancePath }: ErrorObject): string[] {
  return instancePath
    .split("/")
    .slice(1)
    .map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
}

/** And as "limits[0].max". */
function pathOf(error: ErrorObject): string {
  return stepsOf(error).reduce(
    (path, part) =>
      /^\d+$/.test(part) ? `${path}[${part}]` : path === "" ? part : `${path}.${part}`,
    "",
  );
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) as string | undefined;
  return text === undefined ? typeof value : text.length > 60 ? `${text.slice(0, 60)}…` : text;
}

function tell(error: ErrorObject): string {
  const path = pathOf(error);
  const params = error.params as Record<string, unknown>;
  const at = (name: unknown): string => (path === "" ? String(name) : `${path}.${String(name)}`);
  switch (error.keyword) {
    case "required":
      return `${at(params["missingProperty"])} is missing`;
    case "additionalProperties":
    case "unevaluatedProperties":
      return `${at(params["additionalProperty"] ?? params["unevaluatedProperty"])} is not an option`;
    case "enum":
      return `${path} must be one of ${shown(params["allowedValues"])}, not ${shown(error.data)}`;
    case "const":
      return `${path} must be ${shown(params["allowedValue"])}, not ${shown(error.data)}`;
    default: {
      // A secret that is too short must not end up in the log: only kinds are shown.
      const got = error.keyword === "type" ? `, not ${shown(error.data)}` : "";
      return `${path === "" ? "the configuration" : path} ${error.message ?? error.keyword}${got}`;
    }
  }
}

function keyOf(part: PropertyKey | { readonly key: PropertyKey }): PropertyKey {
  return typeof part === "object" ? part.key : part;
}

function tellIssue({ path = [], message }: StandardIssue): string {
  const at = path.reduce<string>((text, part) => {
    const key = keyOf(part);
    if (typeof key === "number") return `${text}[${key}]`;
    return text === "" ? String(key) : `${text}.${String(key)}`;
  }, "");
  return at === "" ? message : `${at}: ${message}`;
}

function refuse(name: string, problems: string[]): never {
  const told = problems.slice(0, MAX_TOLD).join("; ");
  const more = problems.length > MAX_TOLD ? `; and ${problems.length - MAX_TOLD} more` : "";
  throw new RestyTsError("bad_config", `${name}: ${told}${more}`);
}

function isStandard(schema: object): schema is StandardSchemaV1 {
  return "~standard" in schema;
}

type Validated = { readonly value: unknown } | { readonly problems: readonly string[] };

/** What comes from Lua has {} for an array without items: Lua has one empty table for both. */
interface Source {
  readonly isLua: boolean;
}

const LUA: Source = { isLua: true };
const JSON_TEXT: Source = { isLua: false };

function validateJson(schema: Schema, given: unknown, { isLua }: Source): Validated {
  const validate = compile(schema);
  const own = { value: structuredClone(given) };
  for (;;) {
    if (validate(own.value)) return { value: dropPrototypes(own.value) };
    const errors = validate.errors ?? [];
    const emptied = isLua ? errors.filter(wantsArray).map(stepsOf) : [];
    // One place may be told of several times: each is another {} that is gone.
    if (!emptied.some((steps) => putArray(own, steps))) {
      return { problems: [...new Set(errors.map(tell))] };
    }
  }
}

function wantsArray({ keyword, params }: ErrorObject): boolean {
  const { type } = params as { type?: string | string[] };
  return keyword === "type" && (Array.isArray(type) ? type : [type]).includes("array");
}

async function validateStandard(
  schema: StandardSchemaV1,
  given: unknown,
  { isLua }: Source,
): Promise<Validated> {
  const result = await schema["~standard"].validate(given);
  if (result.issues === undefined) return { value: result.value };
  const own = { value: structuredClone(given) };
  const paths = isLua ? result.issues.map(({ path = [] }) => path.map(keyOf)) : [];
  // It does not say what it wants there: [] is right if it says so then.
  if (paths.map((steps) => putArray(own, steps)).includes(true)) {
    const again = await schema["~standard"].validate(own.value);
    if (again.issues === undefined) return { value: again.value };
  }
  return { problems: result.issues.map(tellIssue) };
}

function validate(schema: object, given: unknown, source: Source): Validated | Promise<Validated> {
  return isStandard(schema)
    ? validateStandard(schema, given, source)
    : validateJson(schema as Schema, given, source);
}

/** @throws {RestyTsError} "bad_config". */
async function valueOf(
  plugin: Plugin,
  schema: object,
  given: unknown,
  source: Source,
  what = "",
): Promise<unknown> {
  const validated = await validate(schema, given, source);
  if ("value" in validated) return validated.value;
  return refuse(
    plugin.name,
    validated.problems.map((problem) => what + problem),
  );
}

/**
 * The configuration with its defaults, as a value of its own.
 *
 * @param given what Lua sent; null: none.
 * @throws {RestyTsError} "bad_config": each problem with its path and what was expected.
 */
export async function checkConfig(
  plugin: Plugin,
  given: unknown,
  source: Source = LUA,
): Promise<unknown> {
  const conf: unknown = given ?? {};
  const schema = plugin.schema as object | undefined;
  if (schema !== undefined) return valueOf(plugin, schema, conf, source);
  if (typeof conf === "object" && Object.keys(conf as object).length === 0) return conf;
  return refuse(plugin.name, [NO_SCHEMA]);
}

/**
 * All that is wrong with a configuration that stands in a JSON or YAML file.
 *
 * @returns each problem with its path, none when it is right.
 */
export async function configProblems(plugin: Plugin, given: unknown): Promise<readonly string[]> {
  const conf: unknown = given ?? {};
  const schema = plugin.schema as object | undefined;
  if (schema === undefined) {
    const isEmpty = typeof conf === "object" && Object.keys(conf as object).length === 0;
    return isEmpty ? [] : [NO_SCHEMA];
  }
  const validated = await validate(schema, conf, JSON_TEXT);
  return "value" in validated ? [] : validated.problems;
}

/**
 * The same of a configuration that is a JSON text, as APISIX's hooks have it; an empty text is none.
 *
 * @throws {RestyTsError} "bad_config".
 */
export async function checkText(plugin: Plugin, text: unknown): Promise<unknown> {
  const given = text ?? "";
  if (typeof given !== "string") refuse(plugin.name, ["the value is no text"]);
  if (takesText(plugin)) return checkConfig(plugin, given, JSON_TEXT);
  let conf: unknown = {};
  try {
    if (given.trim() !== "") conf = JSON.parse(given);
  } catch (error) {
    // V8 shows the text around the mistake: a secret may be there.
    const why = (error as Error).message.replace(/, (?:\.\.\.)?".*$/s, "");
    refuse(plugin.name, [`the value is not JSON: ${why}`]);
  }
  return checkConfig(plugin, conf, JSON_TEXT);
}

/**
 * APISIX's metadata of the plugin; undefined when there is none.
 *
 * @throws {RestyTsError} "bad_config".
 */
export function checkMetadata(plugin: Plugin, given: unknown): Promise<unknown> {
  if (given === undefined || given === null) return Promise.resolve(undefined);
  const schema = plugin.apisix?.metadataSchema as object | undefined;
  return schema === undefined
    ? Promise.resolve(given)
    : valueOf(plugin, schema, given, LUA, "metadata: ");
}

/** Compiles a JSON Schema, so that a bad one is told when the plugin is loaded. @throws {Error} */
export function checkSchema(schema: object): void {
  if (!isStandard(schema)) compile(schema as Schema);
}
