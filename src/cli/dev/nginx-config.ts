/**
 * The nginx that `resty-ts dev` runs: its configuration, and the Lua that tells of each request.
 *
 * Invariant: it listens on loopback, and writes below its own folder only.
 */
import path from "node:path";
import type { ProjectFile, Route } from "./project-file.js";

export interface DevPlaces {
  /** Its own folder. */
  readonly prefix: string;
  readonly port: number;
  /** Absolute. */
  readonly plugins: string;
  /** Of this package: the folder that `lua` is in. */
  readonly root: string;
  /** load_module's. */
  readonly modules: readonly string[];
}

/** What a line of its stdout says. */
export type DevEvent =
  | { readonly event: "ready" }
  | {
      readonly event: "request";
      readonly method: string;
      readonly uri: string;
      readonly status: number;
      readonly ms: number;
      /** Phase -> ms, of those that ran. */
      readonly phases: Readonly<Record<string, number>>;
    };

const PHASES = ["rewrite", "access", "content", "header_filter", "body_filter"];

function luaText(text: string): string {
  const bytes = Buffer.from(text, "utf8").toString("latin1");
  const escaped = bytes.replaceAll(
    /[^ !#-[\]-~]/g,
    (char) => `\\${String(char.charCodeAt(0)).padStart(3, "0")}`,
  );
  return `"${escaped}"`;
}

function luaValue(value: unknown): string {
  if (typeof value === "string") return luaText(value);
  if (Array.isArray(value))
    return `require("resty.ts").array { ${value.map(luaValue).join(", ")} }`;
  if (typeof value !== "object") return JSON.stringify(value);
  if (value === null) return 'require("resty.ts").null';
  const fields = Object.entries(value).map(
    ([key, item]) => `[${luaText(key)}] = ${luaValue(item)}`,
  );
  return `{ ${fields.join(", ")} }`;
}

/** The Lua module of the phases: they run the chain, and take the time. */
export const DEV_LUA = `
local http = require "resty.ts.http"
local lib = require("resty.ts.native").load()

local _M = {}
local PHASES = { ${PHASES.map((phase) => `"${phase}"`).join(", ")} }

local function now_ms()
    return tonumber(lib.rts_now_us()) / 1000
end

local function quoted(text)
    return '"' .. text:gsub('[%c"\\\\\\127-\\255]', function(char)
        return ("\\\\u%04x"):format(char:byte())
    end) .. '"'
end

local function write(text)
    io.stdout:write(text, "\\n")
    io.stdout:flush()
end

-- A phase that answers does not return: its time ends where the next one begins.
local function close(times, now)
    if times.open then
        times[times.open] = (times[times.open] or 0) + now - times.since
        times.open = nil
    end
end

function _M.run(phase)
    local times = ngx.ctx.resty_ts_dev
    if not times then
        times = {}
        ngx.ctx.resty_ts_dev = times
    end
    close(times, now_ms())
    times.open, times.since = phase, now_ms()
    http.run()
    close(times, now_ms())
    if phase == "content" and not ngx.headers_sent then
        ngx.exit(404)
    end
end

function _M.log()
    http.run()
    local times = ngx.ctx.resty_ts_dev or {}
    close(times, now_ms())
    local parts = {}
    for _, phase in ipairs(PHASES) do
        if times[phase] then
            parts[#parts + 1] = ('"%s":%.3f'):format(phase, times[phase])
        end
    end
    write(('{"event":"request","method":%s,"uri":%s,"status":%d,"ms":%.3f,"phases":{%s}}'):format(
        quoted(ngx.req.get_method()), quoted(ngx.var.request_uri or "-"), ngx.status,
        tonumber(ngx.var.request_time) * 1000, table.concat(parts, ",")))
end

function _M.ready()
    write('{"event":"ready"}')
end

return _M
`;

const phase = (name: string): string =>
  `${name}_by_lua_block { require("resty_ts_dev").run("${name}") }`;

function location({ path: where, upstream }: Route, name: string): string {
  const end = upstream === undefined ? phase("content") : `proxy_pass ${upstream};`;
  const phases = ["rewrite", "access", "header_filter", "body_filter"].map(phase);
  return [
    `location ${where} {`,
    `  set $resty_ts_route ${name};`,
    ...[...phases, 'log_by_lua_block { require("resty_ts_dev").log() }', end].map(
      (line) => `  ${line}`,
    ),
    "}",
  ].join("\n    ");
}

/** nginx.conf. */
export function devConfig({ routes }: ProjectFile, places: DevPlaces): string {
  const { prefix, port, plugins, root, modules } = places;
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const chains = routes.map(({ plugins: chain }, i) => {
    const members = chain.map(
      ({ name, conf }) => `{ name = ${luaText(name)}, conf = ${luaValue(conf ?? {})} }`,
    );
    return `require("resty.ts.http").route("route_${i}", { ${members.join(", ")} })`;
  });
  // Only root's nginx has another user for its workers: these may not be able to read the project.
  const user = process.getuid?.() === 0 ? "user root root;" : "";
  return `${modules.map((file) => `load_module "${file}";`).join("\n")}
daemon off;
${user}
worker_processes 1;
pid "${path.join(prefix, "nginx.pid")}";
lock_file "${path.join(prefix, "nginx.lock")}";
error_log stderr notice;
events {}
http {
  access_log off;
  ${temp.map((name) => `${name}_temp_path "${path.join(prefix, name)}";`).join("\n  ")}
  lua_package_path "${prefix}/?.lua;${path.join(root, "lua")}/?.lua;;";
  init_worker_by_lua_block {
    assert(require("resty.ts").start {
      plugins = ${luaText(plugins)}, watch = true, runtime_dir = ${luaText(prefix)},
    })
    ${chains.join("\n    ")}
    require("resty_ts_dev").ready()
  }
  server {
    listen 127.0.0.1:${port};
    ${routes.map((route, i) => location(route, `route_${i}`)).join("\n    ")}
  }
}
`;
}
