/** What docs/nginx.md says of nginx's own directives beside plugins. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ok, phase, plugin, route } from "../../support/plugin-phases.js";
import { withPlugins } from "../../support/plugins.js";

/** Refuses whoever has no key, and says in which locations it was asked. */
const gate = plugin(`
  name: "gate",
  access(ctx) {
    ctx.ctx.asked = (ctx.ctx.asked ?? "") + ctx.request.path;
    ctx.response.headers.set("x-asked", ctx.ctx.asked);
    if (!ctx.request.headers.has("x-key")) return ctx.exit(403, "gate");
  }`);

const gated = route("gate");

const options = {
  allowLog: [/\$resty_ts_route, rewrite, request \w+: it has no value/],
  initWorker: `require("resty.ts.http").route("gate", { "gate" })`,
  locations: {
    "= /ok": route("off") + ok,
    "= /ok-gated": gated + ok,
    "= /auth-open": `auth_request /ok; ${gated} ${ok}`,
    "= /auth-gated": `auth_request /ok-gated; ${route("off")} ${ok}`,
    "= /any-allow": `satisfy any; allow all; ${gated} ${ok}`,
    "= /any-deny": `satisfy any; deny all; ${gated} ${ok}`,
    "= /any-rewrite": `satisfy any; allow all; ${phase("rewrite", `http.access("gate")`)} ` + ok,
    "= /error-page": `error_page 403 /ok; ${gated} ${ok}`,
    "= /try": `${gated} try_files /missing /ok-gated;`,
    "= /return": `${gated} return 200 "ok";`,
    "/outer": `${gated}
      location = /outer/unset { ${ok} }
      location = /outer/inherits { set $resty_ts_route gate; ${ok} }
      location = /outer/replaces { set $resty_ts_route gate; access_by_lua_block { local a } ${ok} }`,
  },
};

const KEY = { "x-key": "1" };

test("plugins beside auth_request, satisfy, error_page, try_files, return and nested locations", () =>
  withPlugins({ gate }, options, async (nginx) => {
    const seen: Record<string, unknown> = {};
    for (const [path, headers] of [
      ["/auth-open", {}],
      ["/auth-open", KEY],
      ["/auth-gated", {}],
      ["/any-allow", {}],
      ["/any-deny", {}],
      ["/any-deny", KEY],
      ["/any-rewrite", {}],
      ["/error-page", {}],
      ["/try", {}],
      ["/try", KEY],
      ["/return", {}],
      ["/outer/unset", {}],
      ["/outer/inherits", {}],
      ["/outer/replaces", {}],
    ] as const) {
      const reply = await nginx.ask(path, { headers });
      const key = `${path}${headers === KEY ? " with a key" : ""}`;
      const text = reply.status === 500 ? "closed" : reply.text;
      seen[key] = [reply.status, text, reply.headers["x-asked"]];
    }
    assert.deepEqual(seen, {
      // The variables of a request are its subrequests', too: the route is what it began with.
      "/auth-open": [403, "gate", "/auth-open"],
      "/auth-open with a key": [200, "ok", "/auth-open"],
      // No access phase in the subrequest.
      "/auth-gated": [200, "ok", undefined],
      "/any-allow": [200, "ok", undefined],
      "/any-deny": [403, "gate", "/any-deny"],
      "/any-deny with a key": [200, "ok", "/any-deny"],
      "/any-rewrite": [403, "gate", "/any-rewrite"],
      "/error-page": [403, "gate", "/error-page"],
      "/try": [403, "gate", "/try"],
      "/try with a key": [200, "ok", "/ok-gated"],
      "/return": [200, "ok", undefined],
      // `set` is not inherited.
      "/outer/unset": [500, "closed", undefined],
      "/outer/inherits": [403, "gate", "/outer/inherits"],
      "/outer/replaces": [200, "ok", undefined],
    });
  }));
