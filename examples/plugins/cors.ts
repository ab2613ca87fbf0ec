/**
 * Cross-origin requests (the CORS protocol of the Fetch standard): answers preflights itself, and
 * tells browsers which other origins may read the answers.
 *
 *     location /api {
 *       rewrite_by_lua_block       { require("resty.ts.http").rewrite("cors", {
 *                                      origins = { "https://app.example.org", "https://*.example.net" },
 *                                      credentials = true }) }
 *       header_filter_by_lua_block { require("resty.ts.http").header_filter("cors") }
 *       proxy_pass http://backend;
 *     }
 *
 * Preflights are answered in rewrite, before any authentication: browsers send them without one. The
 * fields that rewrite sets are in place of the upstream's: header_filter does that without a call.
 */
import { definePlugin, Type, type ReadonlyHttpRequest } from "resty-ts";

/** "https://*.example.net" stands for any name below example.net, and not for example.net itself. */
function originMatcher(origins: readonly string[]): (origin: string) => boolean {
  const exact = new Set(origins.filter((origin) => !origin.includes("*")));
  const patterns = origins
    .filter((origin) => origin.includes("*") && origin !== "*")
    .map((origin) => {
      const parts = origin.split("*").map((part) => part.replace(/[.+?^${}()|[\]\\]/g, "\\$&"));
      return new RegExp(`^${parts.join("[a-zA-Z0-9.-]+")}$`);
    });
  return (origin) => exact.has(origin) || patterns.some((pattern) => pattern.test(origin));
}

function isPreflight({ method, headers }: ReadonlyHttpRequest): boolean {
  return (
    method === "OPTIONS" && headers.has("origin") && headers.has("access-control-request-method")
  );
}

export default definePlugin({
  name: "cors",
  version: "1.0.0",
  priority: 4000,
  schema: Type.Object({
    origins: Type.Array(Type.String({ pattern: "^(\\*|[a-z][a-z0-9+.-]*://[^/]+)$" }), {
      minItems: 1,
      description: 'Origins that may read the answers: "*", "https://a.org" or "https://*.a.org"',
    }),
    methods: Type.Array(Type.String(), {
      default: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
      description: "Methods that a preflight allows",
    }),
    headers: Type.Array(Type.String(), {
      default: ["authorization", "content-type"],
      description: "Request header fields that a preflight allows",
    }),
    exposeHeaders: Type.Array(Type.String(), {
      default: [],
      description: "Response header fields that scripts may read, beside the safelisted ones",
    }),
    credentials: Type.Boolean({
      default: false,
      description: "Whether requests may come with cookies; then origins may not be *",
    }),
    maxAgeSeconds: Type.Integer({
      default: 600,
      minimum: 0,
      description: "How long a browser may remember a preflight's answer",
    }),
  }),

  setup(conf) {
    const any = conf.origins.includes("*");
    if (any && conf.credentials) {
      throw new Error('credentials with origins "*" would let any site act for its visitors');
    }
    const matches = originMatcher(conf.origins);
    /** What access-control-allow-origin says to this origin; null: nothing. */
    return (origin: string | null): string | null =>
      any ? "*" : origin !== null && matches(origin) ? origin : null;
  },

  rewrite(ctx, { conf, state: allowed }) {
    const { headers } = ctx.response;
    const origin = allowed(ctx.request.headers.get("origin"));
    // What the upstream says of origins does not count: this is the place that knows.
    headers.delete("access-control-allow-origin");
    headers.delete("access-control-allow-credentials");
    if (origin !== null) {
      headers.set("access-control-allow-origin", origin);
      if (conf.credentials) headers.set("access-control-allow-credentials", "true");
    }
    if (!isPreflight(ctx.request)) {
      // Caches must not give one origin's answer to another.
      if (origin !== "*") headers.append("vary", "origin");
      if (origin !== null && conf.exposeHeaders.length > 0) {
        headers.set("access-control-expose-headers", conf.exposeHeaders.join(", "));
      }
      return undefined;
    }
    headers.set("vary", "origin, access-control-request-method, access-control-request-headers");
    if (origin !== null) {
      headers.set("access-control-allow-methods", conf.methods.join(", "));
      headers.set("access-control-allow-headers", conf.headers.join(", "));
      headers.set("access-control-max-age", String(conf.maxAgeSeconds));
    }
    return ctx.exit(204);
  },
});
