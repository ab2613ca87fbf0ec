/** The operations of an OpenAPI 3.1 document, each with its validators, found by method and path. */
import { readFileSync } from "node:fs";
import { Ajv2020, type ValidateFunction } from "ajv/dist/2020.js";
import addFormats from "ajv-formats";

export interface Validators {
  readonly body?: ValidateFunction;
  readonly bodyRequired?: boolean;
  readonly query?: ValidateFunction;
  readonly headers?: ValidateFunction;
  readonly path?: ValidateFunction;
}

export type Found =
  | { readonly validators: Validators; readonly pathValues: Record<string, string> }
  | { readonly allow: string[] };

interface Parameter {
  readonly name: string;
  readonly in: "query" | "header" | "path" | "cookie";
  readonly required?: boolean;
  readonly schema?: object;
}

interface Operation {
  readonly parameters?: (Parameter | { $ref: string })[];
  readonly requestBody?: { required?: boolean; content?: Record<string, unknown> };
}

interface Route {
  readonly pattern: RegExp;
  readonly names: string[];
  readonly methods: Map<string, Validators>;
}

const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
const DOCUMENT = "openapi:";

/** Values of queries and fields are text: "5" is a good integer there, and not in a body. */
export function makeAjv(coerceTypes: boolean): Ajv2020 {
  const ajv = new Ajv2020({
    allErrors: true,
    strict: false,
    ...(coerceTypes ? { coerceTypes: "array" } : {}),
  });
  addFormats.default(ajv);
  return ajv;
}

const escape = (key: string): string => key.replaceAll("~", "~0").replaceAll("/", "~1");

export class OpenApi {
  readonly #strict = makeAjv(false);
  readonly #coercing = makeAjv(true);
  readonly #routes: Route[] = [];
  readonly #document: Record<string, unknown>;

  /** @throws {Error} when the file is not there or a schema is none. */
  constructor(file: string) {
    this.#document = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
    // Not a schema itself: its parts are found by reference.
    for (const ajv of [this.#strict, this.#coercing]) {
      ajv.addSchema(this.#document, DOCUMENT, undefined, false);
    }
    const paths = (this.#document["paths"] ?? {}) as Record<string, Record<string, unknown>>;
    for (const [path, item] of Object.entries(paths)) {
      const names: string[] = [];
      const pattern = path
        .split(/\{([^}]+)\}/)
        .map((part, i) => {
          if (i % 2 === 0) return part.replace(/[.*+?^$()|[\]\\]/g, "\\$&");
          names.push(part);
          return "([^/]+)";
        })
        .join("");
      const methods = new Map<string, Validators>();
      for (const method of METHODS.filter((name) => name in item)) {
        const shared = (item["parameters"] ?? []) as Operation["parameters"];
        const operation = item[method] as Operation;
        methods.set(method.toUpperCase(), this.#validators(path, method, operation, shared ?? []));
      }
      this.#routes.push({ pattern: new RegExp(`^${pattern}$`), names, methods });
    }
    // "/users/me" before "/users/{id}".
    this.#routes.sort((a, b) => a.names.length - b.names.length);
  }

  /** @returns undefined when the document has no such path. */
  find(method: string, path: string): Found | undefined {
    for (const { pattern, names, methods } of this.#routes) {
      const match = pattern.exec(path);
      if (match === null) continue;
      const validators = methods.get(method);
      if (validators === undefined) return { allow: [...methods.keys()] };
      return {
        validators,
        pathValues: Object.fromEntries(names.map((name, i) => [name, match[i + 1]!])),
      };
    }
    return undefined;
  }

  #validators(
    path: string,
    method: string,
    operation: Operation,
    shared: NonNullable<Operation["parameters"]>,
  ): Validators {
    const parameters = [...shared, ...(operation.parameters ?? [])].map((parameter) =>
      "$ref" in parameter ? (this.#resolve(parameter.$ref) as Parameter) : parameter,
    );
    const of = (kind: Parameter["in"]): { [key: string]: ValidateFunction } => {
      const chosen = parameters.filter((parameter) => parameter.in === kind);
      if (chosen.length === 0) return {};
      const key = (name: string): string => (kind === "header" ? name.toLowerCase() : name);
      const schema = {
        type: "object",
        properties: Object.fromEntries(
          chosen.map(({ name, schema = {} }) => [key(name), this.#absolute(schema)]),
        ),
        required: chosen.filter(({ required }) => required).map(({ name }) => key(name)),
      };
      const place = kind === "header" ? "headers" : kind;
      return { [place]: this.#coercing.compile(schema) };
    };
    const json = "application/json";
    const pointer = `#/paths/${escape(path)}/${method}/requestBody/content/${escape(json)}/schema`;
    const { requestBody } = operation;
    const hasJson = requestBody?.content?.[json] !== undefined;
    return {
      ...of("path"),
      ...of("query"),
      ...of("header"),
      ...(hasJson ? { body: this.#strict.compile({ $ref: DOCUMENT + encodeURI(pointer) }) } : {}),
      bodyRequired: requestBody?.required ?? false,
    };
  }

  /** A part of the document as a schema of its own: its references lead into the document. */
  #absolute(schema: object): object {
    const text = JSON.stringify(schema);
    return JSON.parse(text.replaceAll('"$ref":"#/', `"$ref":"${DOCUMENT}#/`)) as object;
  }

  #resolve(reference: string): unknown {
    return reference
      .slice(2)
      .split("/")
      .map((key) => key.replaceAll("~1", "/").replaceAll("~0", "~"))
      .reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], this.#document);
  }
}
