/**
 * A plugin's JSON Schema as APISIX's validator (api7/jsonschema 0.9) takes it: that one knows draft 7,
 * passes over what it does not know, and fails on a few things that are right. What cannot be said to
 * it is a problem here, and not a configuration that passes there and is refused in nginx.
 *
 * Invariant: what comes out accepts what the plugin's own schema accepts, in all that both check.
 */

export type Json = null | boolean | number | string | Json[] | JsonObject;
export type JsonObject = { [key: string]: Json };

/** Keywords that APISIX's validator passes over, and what it would understand. */
const UNKNOWN: Readonly<Record<string, string>> = {
  $anchor: "refer to the place by a pointer, #/definitions/…",
  $dynamicAnchor: "refer to the place by a pointer, #/definitions/…",
  $dynamicRef: "use $ref",
  $recursiveAnchor: "refer to the place by a pointer, #/definitions/…",
  $recursiveRef: "use $ref",
  dependentRequired: "use dependencies",
  dependentSchemas: "use dependencies",
  formatExclusiveMaximum: "use pattern, or check it in setup",
  formatExclusiveMinimum: "use pattern, or check it in setup",
  formatMaximum: "use pattern, or check it in setup",
  formatMinimum: "use pattern, or check it in setup",
  maxContains: "check it in setup",
  minContains: "check it in setup",
  nullable: 'use type: ["…", "null"]',
  prefixItems: "use an array in items, and additionalItems",
  unevaluatedItems: "use items and additionalItems",
  unevaluatedProperties:
    "put all properties into one schema with additionalProperties (TypeBox: Type.Composite)",
};

/** Where schemas are in a schema. */
const ONE = [
  ...["additionalItems", "additionalProperties", "contains", "else", "if", "items", "not"],
  ...["propertyNames", "then"],
];
const MANY = ["allOf", "anyOf", "items", "oneOf"];
const TRIED = ["anyOf", "contains", "if", "not", "oneOf", "propertyNames"];
const NAMED = ["$defs", "definitions", "dependencies", "patternProperties", "properties"];

/** Of the meta-schema's: they name a schema, and say nothing of a value. */
const NAMES = ["$schema", "$id", "id"];

type Visitor = (schema: JsonObject, pointer: string, tried: boolean) => void;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const escaped = (name: string): string => name.replaceAll("~", "~0").replaceAll("/", "~1");
const unescaped = (part: string): string => part.replaceAll("~1", "/").replaceAll("~0", "~");

/**
 * Calls `visit` for each schema in a schema, with its JSON Pointer: the outer ones first.
 * @param visit `tried`: the schema only finds out whether a value fits, so no default is filled in.
 */
function walk(schema: Json, visit: Visitor, pointer = "", tried = false): void {
  if (!isObject(schema)) return;
  visit(schema, pointer, tried);
  for (const [key, inner] of Object.entries(schema)) {
    const at = `${pointer}/${key}`;
    const isTried = tried || TRIED.includes(key);
    if (ONE.includes(key) && !Array.isArray(inner)) walk(inner, visit, at, isTried);
    else if (MANY.includes(key) && Array.isArray(inner)) {
      inner.forEach((each, i) => {
        walk(each, visit, `${at}/${i}`, isTried);
      });
    } else if (NAMED.includes(key) && isObject(inner)) {
      for (const [name, each] of Object.entries(inner)) {
        walk(each, visit, `${at}/${escaped(name)}`, isTried);
      }
    }
  }
}

/** Whether a JSON Pointer leads somewhere. */
function leadsSomewhere(document: Json, pointer: string): boolean {
  let at: Json | undefined = document;
  for (const part of pointer.split("/").slice(1).map(unescaped)) {
    if (Array.isArray(at)) at = at[Number(part)];
    else at = isObject(at) && Object.hasOwn(at, part) ? at[part] : undefined;
    if (at === undefined) return false;
  }
  return true;
}

/** @returns the pointer that a $ref means; undefined: it leads out of the schema. */
function target(document: Json, ids: ReadonlyMap<string, string>, ref: string): string | undefined {
  const id = ids.get(ref);
  if (id !== undefined) return id;
  const [base = "", fragment = ""] = ref.split("#");
  const start = base === "" ? "" : ids.get(base);
  if (start === undefined || (fragment !== "" && !fragment.startsWith("/"))) return undefined;
  const pointer = start + decodeURIComponent(fragment);
  return leadsSomewhere(document, pointer) ? pointer : undefined;
}

/** As a fragment of a URI. */
const fragmentOf = (pointer: string): string =>
  `#${pointer.split("/").map(encodeURIComponent).join("/").replaceAll("%24", "$")}`;

/** APISIX's validator finds a property's schema by a path in which these mean something else. */
function isUnfindable(name: string): boolean {
  const isNumber = name.trim() !== "" && !Number.isNaN(Number(name));
  return isNumber || /^[-+]?(nan|inf|infinity)$/i.test(name) || /%[0-9a-f]{2}|~[01]/i.test(name);
}

const OTHER = "rename it, or say it by patternProperties, as a pattern like ^404$";

function hasNull(value: Json): boolean {
  return value === null || (typeof value === "object" && Object.values(value).some(hasNull));
}

/** Of a schema's own keywords, what APISIX's validator passes over or fails on. */
function keywordProblems(schema: JsonObject): string[] {
  const problems = Object.keys(schema)
    .filter((key) => Object.hasOwn(UNKNOWN, key))
    .map((key) => `APISIX's validator does not know ${key}: ${UNKNOWN[key]!}`);
  const say = (text: string): void => {
    problems.push(`APISIX's validator ${text}`);
  };
  if (isObject(schema["propertyNames"])) {
    say("does not know propertyNames: use patternProperties with additionalProperties: false");
  }
  for (const key of ["if", "then", "else"]) {
    if (schema[key] === false) say(`passes over ${key}: false; say { not: {} }`);
  }
  const { pattern } = schema;
  if (typeof pattern === "string") {
    if (pattern.includes("]]")) say('fails on "]]" in a pattern: say \\x5d for "]"');
    if (/(?<!\\)(\\\\)*\\u/.test(pattern)) {
      say("takes PCRE, which has no \\u in a pattern: write the character itself");
    }
  }
  if (Array.isArray(schema["enum"]) && schema["enum"].includes(null)) {
    say('fails on null in an enum: say anyOf: [{ enum: […] }, { type: "null" }]');
  }
  const { default: value = null } = schema;
  if (value !== null && hasNull(value)) say("fails on null within a default: leave it out");
  for (const key of ["const", "default", "examples"]) {
    if (JSON.stringify(schema[key] ?? null).includes('"$id":')) {
      say(`fails on $id within ${key}: rename it`);
    }
  }
  for (const key of NAMED) {
    const inner = schema[key];
    for (const name of isObject(inner) ? Object.keys(inner) : []) {
      if (isUnfindable(name)) say(`fails on the name ${JSON.stringify(name)} in ${key}: ${OTHER}`);
      if (key === "patternProperties" && name.includes("'")) {
        say(`fails on "'" in patternProperties: say \\x27`);
      }
      if (name === "$id") say(`fails on a property with the name $id: rename it`);
    }
  }
  const dependencies = schema["dependencies"] ?? null;
  for (const [name, needs] of isObject(dependencies) ? Object.entries(dependencies) : []) {
    if (typeof needs === "boolean") say(`fails on dependencies.${name}: ${needs}: use a schema`);
    if (Array.isArray(needs) && JSON.stringify(needs).includes("'")) {
      say(`fails on "'" in dependencies.${name}: rename it`);
    }
  }
  return problems;
}

/**
 * Says the same in the way that APISIX's validator takes it: to it an empty `required` is "only empty
 * objects", and a property that is required must be there although it has a default, which TypeBox's
 * and others' have; `true` ends the checks of a value.
 */
function simplify(schema: JsonObject, _pointer: string, tried: boolean): void {
  for (const key of NAMES) if (typeof schema[key] === "string") delete schema[key];
  for (const key of ["items", "propertyNames"]) if (schema[key] === true) delete schema[key];
  const { required, properties = null } = schema;
  if (!Array.isArray(required)) return;
  const isFilledIn = (name: Json): boolean => {
    const property = isObject(properties) ? (properties[name as string] ?? null) : null;
    return !tried && isObject(property) && Object.hasOwn(property, "default");
  };
  const left = required.filter((name) => !isFilledIn(name));
  if (left.length > 0) schema["required"] = left;
  else delete schema["required"];
}

/** Only what JSON can carry: TypeBox's own marks are symbols. @throws {TypeError} for a cycle. */
const copyOf = (schema: object): Json => JSON.parse(JSON.stringify(schema)) as Json;

/**
 * @param where "schema", …: what messages begin with.
 * @param problems gets what cannot be said to APISIX.
 */
export function apisixSchema(given: object, where: string, problems: string[]): JsonObject {
  const copy = copyOf(given);
  if (!isObject(copy)) {
    problems.push(`${where}: is no JSON Schema in an object`);
    return {};
  }
  const { type, properties } = copy;
  if (type !== undefined && type !== "object") {
    problems.push(
      `${where}: its type is ${JSON.stringify(type)}, and APISIX gives plugins objects`,
    );
  }
  if (isObject(properties) && Object.hasOwn(properties, "_meta")) {
    problems.push(`${where}#/properties/_meta: the name is APISIX's own: rename it`);
  }
  const ids = new Map<string, string>();
  walk(copy, (schema, pointer) => {
    if (typeof schema["$id"] === "string") ids.set(schema["$id"], pointer);
  });
  walk(copy, (schema, pointer) => {
    const at = pointer === "" ? where : `${where}#${pointer}`;
    const { $ref: ref } = schema;
    if (typeof ref === "string") {
      const found = target(copy, ids, ref);
      if (found !== undefined) schema["$ref"] = fragmentOf(found);
      else problems.push(`${at}: $ref ${JSON.stringify(ref)} leads out of the schema: copy it in`);
    }
    problems.push(...keywordProblems(schema).map((problem) => `${at}: ${problem}`));
  });
  walk(copy, simplify);
  return copy;
}
