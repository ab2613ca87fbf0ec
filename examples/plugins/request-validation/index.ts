/**
 * Lets through what an API's description allows: an OpenAPI 3.1 document, or JSON Schemas (2020-12)
 * of the body, the query and the header fields.
 *
 *     location /api {
 *       access_by_lua_block { require("resty.ts.http").access("request-validation", {
 *                               openapiFile = "/etc/shop/openapi.json" }) }
 *       proxy_pass http://backend;
 *     }
 *
 * What is wrong is answered with 400 and application/problem+json (RFC 9457), which names each place.
 */
import type { ErrorObject, ValidateFunction } from "ajv";
import { definePlugin, Type, type Exit, type RequestContext } from "resty-ts";
import { makeAjv, OpenApi, type Validators } from "./openapi.js";

interface Fault {
  readonly in: "body" | "query" | "headers" | "path";
  /** A JSON Pointer. */
  readonly pointer: string;
  readonly detail: string;
}

const TITLES: Record<number, string> = {
  400: "Bad Request",
  404: "Not Found",
  405: "Method Not Allowed",
  413: "Content Too Large",
  415: "Unsupported Media Type",
};

function problem(ctx: RequestContext, status: number, detail: string, errors?: Fault[]): Exit {
  ctx.response.headers.set("content-type", "application/problem+json");
  return ctx.exit(status, { type: "about:blank", title: TITLES[status], status, detail, errors });
}

/** A missing or unknown property is told by its own path. */
function pointerOf({ instancePath, params }: ErrorObject): string {
  const { missingProperty, additionalProperty } = params as Record<string, string | undefined>;
  const name = missingProperty ?? additionalProperty;
  if (name === undefined) return instancePath;
  return `${instancePath}/${name.replaceAll("~", "~0").replaceAll("/", "~1")}`;
}

function faultsOf(
  place: Fault["in"],
  validate: ValidateFunction | undefined,
  value: unknown,
): Fault[] {
  if (validate === undefined || validate(value)) return [];
  return (validate.errors ?? []).map((error) => ({
    in: place,
    pointer: pointerOf(error),
    detail: error.message ?? error.keyword,
  }));
}

/** By name; a repeated one's values in an array. */
function grouped(pairs: Iterable<[string, string]>): Record<string, string | string[]> {
  const values = new Map<string, string[]>();
  for (const [name, value] of pairs) {
    values.set(name, [...(values.get(name) ?? []), value]);
  }
  return Object.fromEntries(
    [...values].map(([name, all]) => [name, all.length > 1 ? all : all[0]!]),
  );
}

const Schema = (place: string) =>
  Type.Optional(
    Type.Record(Type.String(), Type.Unknown(), { description: `A JSON Schema of ${place}` }),
  );

export default definePlugin({
  name: "request-validation",
  version: "1.0.0",
  priority: 2800,
  schema: Type.Object({
    openapiFile: Type.Optional(
      Type.String({
        description: "An OpenAPI 3.1 document in JSON; then there are no schemas here",
      }),
    ),
    basePath: Type.String({
      default: "",
      description: "What paths have before those of openapiFile",
    }),
    body: Schema("the JSON body"),
    query: Schema("the query's arguments, an object"),
    headers: Schema("the header fields, an object of lower-case names"),
    maxBodyBytes: Type.Integer({ default: 1_048_576, minimum: 1 }),
  }),

  setup({ openapiFile, body, query, headers }) {
    if (openapiFile !== undefined) return new OpenApi(openapiFile);
    const compile = (ajv: ReturnType<typeof makeAjv>, schema: object | undefined) =>
      schema === undefined ? undefined : ajv.compile(schema);
    const coercing = makeAjv(true);
    const validators = {
      body: compile(makeAjv(false), body),
      query: compile(coercing, query),
      headers: compile(coercing, headers),
      bodyRequired: body !== undefined,
    } as Validators;
    return { find: () => ({ validators, pathValues: {} }) };
  },

  async access(ctx, { conf, state: api }) {
    const { request } = ctx;
    const { path } = request;
    if (!path.startsWith(conf.basePath)) return problem(ctx, 404, "there is no such path");
    const found = api.find(request.method, path.slice(conf.basePath.length));
    if (found === undefined) return problem(ctx, 404, "there is no such path");
    if ("allow" in found) {
      ctx.response.headers.set("allow", found.allow.join(", "));
      return problem(ctx, 405, `this path has ${found.allow.join(", ")}`);
    }
    const { validators, pathValues } = found;
    const fields = [...request.headers].map(([name, value]): [string, string] => [
      name.toLowerCase(),
      value,
    ]);
    const faults = [
      ...faultsOf("path", validators.path, pathValues),
      ...faultsOf("query", validators.query, grouped(request.query)),
      ...faultsOf("headers", validators.headers, grouped(fields)),
    ];
    if (validators.body !== undefined) {
      const text = await request.text(conf.maxBodyBytes).catch((error: unknown) => {
        if ((error as { code?: unknown }).code === "too_large") return undefined;
        throw error;
      });
      if (text === undefined) return problem(ctx, 413, `at most ${conf.maxBodyBytes} bytes`);
      if (text !== "") {
        const type = request.headers.get("content-type") ?? "";
        if (!/^application\/json\s*(;|$)/i.test(type)) {
          return problem(ctx, 415, "the body must be application/json");
        }
        try {
          faults.push(...faultsOf("body", validators.body, JSON.parse(text)));
        } catch {
          faults.push({ in: "body", pointer: "", detail: "must be JSON" });
        }
      } else if (validators.bodyRequired) {
        faults.push({ in: "body", pointer: "", detail: "must be there" });
      }
    }
    if (faults.length > 0) return problem(ctx, 400, "the request is not as described", faults);
    return undefined;
  },
});
