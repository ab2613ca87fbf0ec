/**
 * A/B tests: sends each client to one of some variants, by weight, and stays with it.
 *
 *     location / {
 *       set $ab_upstream "";
 *       access_by_lua_block { require("resty.ts.http").access("ab-upstream", { variants = {
 *                               { name = "old", weight = 9, upstream = "backend_old" },
 *                               { name = "new", weight = 1, upstream = "backend_new" } } }) }
 *       proxy_pass http://$ab_upstream;
 *     }
 *
 * A variant has the name of an `upstream` block, as above, or an address (`host`, `port`) for
 *
 *     upstream variants { server 0.0.0.1; balancer_by_lua_block { require("resty.ts.http").balancer() } }
 *
 * A client's variant is in its cookie; without one it follows from a hash of the client's address (or
 * of a header field), so it is the same in all workers and on all machines.
 */
import { createHash } from "node:crypto";
import { definePlugin, Type } from "resty-ts";

const Variant = Type.Object({
  name: Type.String({ pattern: "^[A-Za-z0-9_-]+$", description: "What the cookie says" }),
  weight: Type.Number({ minimum: 0, default: 1, description: "Its share, beside the others'" }),
  upstream: Type.Optional(Type.String({ description: "For $ab_upstream" })),
  host: Type.Optional(Type.String({ description: 'For http.balancer(): an IP or "unix:/path"' })),
  port: Type.Optional(Type.Integer({ minimum: 1, maximum: 65535 })),
});

/** The same number from 0 to below 1 for the same text, evenly spread. */
function point(text: string): number {
  return createHash("sha256").update(text).digest().readUInt32BE(0) / 2 ** 32;
}

export default definePlugin({
  name: "ab-upstream",
  version: "1.0.0",
  priority: 1000,
  schema: Type.Object({
    variants: Type.Array(Variant, { minItems: 1, description: "Where requests may go" }),
    cookie: Type.String({
      default: "ab",
      pattern: "^[A-Za-z0-9_-]+$",
      description: "The cookie in which a client keeps its variant",
    }),
    maxAgeSeconds: Type.Integer({ default: 2_592_000, description: "How long it keeps it" }),
    hashHeader: Type.Optional(
      Type.String({ description: "The field that a client is known by; else its address" }),
    ),
  }),

  setup({ variants }) {
    const total = variants.reduce((sum, { weight }) => sum + weight, 0);
    if (total <= 0) throw new Error("ab-upstream: all weights are 0");
    const odd = variants.find(
      ({ upstream, host }) => (upstream === undefined) === (host === undefined),
    );
    if (odd) throw new Error(`ab-upstream: variant ${odd.name} wants one of upstream and host`);
    return {
      byName: new Map(variants.map((variant) => [variant.name, variant])),
      /** The variant at a point from 0 to below 1. */
      at(x: number) {
        let left = x * total;
        return variants.find(({ weight }) => (left -= weight) < 0) ?? variants[0]!;
      },
    };
  },

  access(ctx, { conf, state }) {
    const { request } = ctx;
    // A cookie that names a variant which is gone, or which gets no one any more, does not count.
    let variant = state.byName.get(request.cookies[conf.cookie] ?? "");
    if (variant === undefined || variant.weight === 0) {
      const known = conf.hashHeader === undefined ? null : request.headers.get(conf.hashHeader);
      variant = state.at(point(`${conf.cookie}:${known ?? request.remoteAddress}`));
      ctx.response.headers.append(
        "set-cookie",
        `${conf.cookie}=${variant.name}; Path=/; Max-Age=${conf.maxAgeSeconds}; HttpOnly; SameSite=Lax`,
      );
    }
    if (variant.host !== undefined) ctx.setUpstream(variant.host, variant.port);
    else ctx.var.set("ab_upstream", variant.upstream!);
    request.headers.set("x-variant", variant.name);
    ctx.ctx["ab_variant"] = variant.name;
  },
});
