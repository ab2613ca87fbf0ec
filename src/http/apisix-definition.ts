/** What definePlugin's field `apisix` may hold, told in words when it does not. */
import { checkSchema } from "./config.js";

const KEYS = [
  ...["consumerSchema", "metadataSchema", "encryptFields", "type", "runPolicy", "init", "destroy"],
  ...["api", "controlApi"],
];
const LISTS = ["api", "controlApi"];
const ROUTE_KEYS = ["methods", "uris", "handler"];

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isListOf(value: unknown, pattern: RegExp): boolean {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every((item) => typeof item === "string" && pattern.test(item))
  );
}

function routeProblems(route: unknown, where: string): string[] {
  if (!isObject(route)) return [`${where} is an object`];
  const problems = Object.keys(route)
    .filter((key) => !ROUTE_KEYS.includes(key))
    .map((key) => `${where} has no option ${key}: ${ROUTE_KEYS.join(", ")}`);
  if (!isListOf(route["methods"], /^[A-Z]+$/)) {
    problems.push(`${where}.methods is an array of methods, "GET" say`);
  }
  if (!isListOf(route["uris"], /^\//)) {
    problems.push(`${where}.uris is an array of paths, which begin with "/"`);
  }
  if (typeof route["handler"] !== "function") problems.push(`${where}.handler is a function`);
  return problems;
}

function schemaProblems(schema: unknown, where: string): string[] {
  if (schema === undefined) return [];
  if (!isObject(schema) && typeof schema !== "function") return [`${where} is an object`];
  try {
    checkSchema(schema);
    return [];
  } catch (error) {
    return [`${where} does not compile: ${(error as Error).message}`];
  }
}

/** Whether the plugin is something without a handler for a request's phases. */
export function hasWorkerPart({ apisix }: Readonly<Record<string, unknown>>): boolean {
  return isObject(apisix) && ["init", ...LISTS].some((key) => apisix[key] !== undefined);
}

/** @returns all that is wrong with it. */
export function apisixProblems(apisix: unknown): string[] {
  if (apisix === undefined) return [];
  if (!isObject(apisix)) return ["apisix is an object"];
  const problems = Object.keys(apisix)
    .filter((key) => !KEYS.includes(key))
    .map((key) => `apisix has no option ${key}: ${KEYS.join(", ")}`);
  for (const key of ["consumerSchema", "metadataSchema"]) {
    problems.push(...schemaProblems(apisix[key], `apisix.${key}`));
  }
  const { encryptFields, type, runPolicy } = apisix;
  if (encryptFields !== undefined && !isListOf(encryptFields, /./)) {
    problems.push(`apisix.encryptFields is an array of fields, "redis.password" say`);
  }
  if (type !== undefined && type !== "auth") problems.push(`apisix.type is "auth"`);
  if (runPolicy !== undefined && runPolicy !== "prefer_route") {
    problems.push(`apisix.runPolicy is "prefer_route"`);
  }
  for (const key of ["init", "destroy"]) {
    if (apisix[key] !== undefined && typeof apisix[key] !== "function") {
      problems.push(`apisix.${key} is a function`);
    }
  }
  for (const key of LISTS) {
    const routes = apisix[key];
    if (routes === undefined) continue;
    if (!Array.isArray(routes) || routes.length === 0) {
      problems.push(`apisix.${key} is an array of routes`);
    } else {
      problems.push(...routes.flatMap((route, i) => routeProblems(route, `apisix.${key}[${i}]`)));
    }
  }
  return problems;
}
