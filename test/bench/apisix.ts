// APISIX with one worker and four routes, a plugin in Lua and one in TypeScript on two each: the
// stand-in of the tests, or a real one (test/support/apisix-real.ts says how). The upstream is an
// nginx of its own.
import { join } from "node:path";

import { startRealApisix, realApisix } from "../support/apisix-real.ts";
import { startStandIn } from "../support/apisix-stand-in.ts";
import { makeClient } from "../support/gateway.ts";
import { Nginx } from "../support/nginx.ts";
import { DEADLINES } from "./locations.ts";
import type { Site } from "./nginx.ts";
import { BENCH_DIR } from "./support.ts";

const CASES = ["apisix", "apisix-filter"];

function luaPlugin(name: string, phases: string): string {
  return `
local core = require "apisix.core"
local _M = { version = 0.1, priority = 1, name = "${name}",
             schema = { type = "object", properties = {} } }
function _M.check_schema(conf) return core.schema.check(_M.schema, conf) end
${phases}
return _M`;
}

function tsPlugin(name: string, plugin: string, phases: string): string {
  return `return require("resty.ts.apisix").plugin {
    name = "${name}", plugin = "${plugin}", version = "1.0.0", priority = 1,
    phases = ${phases}, schema = [[{"type":"object"}]],
}`;
}

const PLUGINS: Readonly<Record<string, string>> = {
  "lua-apisix": luaPlugin(
    "lua-apisix",
    `function _M.access(conf, ctx)
       core.request.set_header(ctx, "x-req", "1")
       core.response.set_header("x-resp", "1")
     end`,
  ),
  "lua-apisix-filter": luaPlugin(
    "lua-apisix-filter",
    `function _M.access(conf, ctx) core.request.set_header(ctx, "x-req", "1") end
     function _M.header_filter(conf, ctx) core.response.set_header("x-resp", "1") end`,
  ),
  "ts-apisix": tsPlugin("ts-apisix", "bench-kept", `{ "access" }`),
  "ts-apisix-filter": tsPlugin("ts-apisix-filter", "bench-filter", `{ "access", "header_filter" }`),
};

function resources(upstreamPort: number): unknown {
  const routes = CASES.flatMap((name) =>
    ["lua", "ts"].map((target) => ({
      id: `${target}-${name}`,
      uri: `/${target}/${name}`,
      upstream_id: "1",
      plugins: { [`${target}-${name}`]: {} },
    })),
  );
  const nodes = { [`127.0.0.1:${String(upstreamPort)}`]: 1 };
  return { routes, upstreams: [{ id: "1", type: "roundrobin", nodes }] };
}

export async function startApisix(): Promise<Site> {
  const upstream = await Nginx.start({
    ts: false,
    http: "keepalive_requests 1000000000; keepalive_timeout 1h;",
    locations: { "/": `add_header x-seen $http_x_req; return 200 "ok";` },
  });
  const start = realApisix === undefined ? startStandIn : startRealApisix;
  const server = await start(
    {
      plugins: ["resty-ts", ...Object.keys(PLUGINS)],
      lua: PLUGINS,
      logLevel: "warn", // APISIX's own default
      pluginAttr: {
        "resty-ts": { plugins: join(BENCH_DIR, "plugins"), runtime: "embedded", ...DEADLINES },
      },
    },
    resources(upstream.port ?? 0),
  );
  const status = async (): Promise<{ worker: number; runtime: unknown }> => {
    return (await makeClient("HTTP/1.1", server.controlPort).ask("/v1/plugin/resty-ts")).json();
  };
  return {
    url: `http://127.0.0.1:${String(server.port)}`,
    workerPids: [(await status()).worker],
    async get(path, headers = {}) {
      if (path === "/ts/stats")
        return { status: 200, headers: {}, body: JSON.stringify((await status()).runtime) };
      const reply = await makeClient("HTTP/1.1", server.port).ask(path, { headers });
      return { status: reply.status, headers: reply.headers, body: reply.text };
    },
    errorLog: () => server.errorLog(),
    async stop() {
      await server.stop();
      await upstream.stop();
    },
  };
}
