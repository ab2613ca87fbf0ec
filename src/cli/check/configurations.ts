/**
 * Configurations of plugins in JSON and YAML files, wherever they stand in them: a map from names or a
 * list, or such under `plugins` at any depth, as in APISIX's apisix.yaml.
 */
import { readFileSync } from "node:fs";
import { LineCounter, parseAllDocuments } from "yaml";
import { UsageError } from "../exit.js";

/** One plugin's configuration. */
export interface Configuration {
  /** Where it stands: "routes[0].plugins.cors". */
  readonly path: string;
  readonly name: string;
  readonly value: unknown;
  /** Whether it is below `plugins`, where others' plugins may stand, too. */
  readonly mixed: boolean;
}

type Fields = Readonly<Record<string, unknown>>;

/** APISIX's hooks list plugins with their configurations as texts. */
const HOOK = /^ts-plugin-(pre-req|post-req|post-resp)$/;

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const below = (path: string, name: string): string => (path === "" ? name : `${path}.${name}`);

/** A file's documents. @throws {UsageError} when it cannot be read; {Error} when it is neither. */
export function readDocuments(file: string): unknown[] {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`--conf ${file} cannot be read: ${(error as Error).message}`, {
      cause: error,
    });
  }
  const counter = new LineCounter();
  // JSON is YAML, and this tells where a mistake is.
  const documents = parseAllDocuments(text, { lineCounter: counter, prettyErrors: false });
  if (!Array.isArray(documents)) return [];
  for (const { errors } of documents) {
    const [error] = errors;
    if (error === undefined) continue;
    const { line, col } = counter.linePos(error.pos[0]);
    throw new Error(`${file}:${line}:${col}: it is neither JSON nor YAML: ${error.message}`);
  }
  return documents.map((document) => document.toJS() as unknown);
}

function fromHook(hook: unknown, path: string): Configuration[] {
  const list = isObject(hook) && Array.isArray(hook["conf"]) ? (hook["conf"] as unknown[]) : [];
  return list.flatMap((item, i): Configuration[] => {
    if (!isObject(item) || typeof item["name"] !== "string") return [];
    const where = `${path}.conf[${i}].value`;
    return [{ path: where, name: item["name"], value: textValue(item["value"]), mixed: false }];
  });
}

/** As a hook takes it: a JSON text, or else the text. */
function textValue(text: unknown): unknown {
  if (typeof text !== "string") return text;
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

/** @param plugins a map from names to configurations, or a list as http.chain takes it. */
function listed(plugins: unknown, path: string, mixed: boolean): Configuration[] {
  if (isObject(plugins)) {
    return Object.entries(plugins).flatMap(([name, value]) => {
      const where = below(path, name);
      return HOOK.test(name) ? fromHook(value, where) : [{ path: where, name, value, mixed }];
    });
  }
  if (!Array.isArray(plugins)) return [];
  return plugins.flatMap((item: unknown, i): Configuration[] => {
    const where = `${path}[${i}]`;
    if (isObject(item) && typeof item["name"] === "string") {
      return [{ path: `${where}.conf`, name: item["name"], value: item["conf"], mixed }];
    }
    if (Array.isArray(item) && typeof item[0] === "string") {
      return [{ path: `${where}[1]`, name: item[0], value: item[1], mixed }];
    }
    return [];
  });
}

/** All that stands below some `plugins`; undefined when there is none. */
function embedded(value: unknown, path: string): Configuration[] | undefined {
  const children: [string, unknown][] = Array.isArray(value)
    ? value.map((item, i) => [`${path}[${i}]`, item])
    : Object.entries(isObject(value) ? value : {}).map(([key, item]) => [below(path, key), item]);
  let found: Configuration[] | undefined;
  for (const [where, child] of children) {
    const isPlugins = isObject(value) && where === below(path, "plugins");
    const more = isPlugins ? listed(child, where, true) : embedded(child, where);
    if (more !== undefined) found = [...(found ?? []), ...more];
  }
  return found;
}

/** The configurations of a document. */
export function configurationsIn(document: unknown): Configuration[] {
  return embedded(document, "") ?? listed(document, "", false);
}
