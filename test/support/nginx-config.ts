/** The text of a test's nginx.conf, from the parts that the test cares about. */

export type LuaValue = string | number | boolean | LuaValue[] | { [key: string]: LuaValue };

/** What goes to ts.start. `modules` and `runtime_dir` are filled in by the harness. */
export type StartOptions = Record<string, LuaValue>;

export interface ConfigParts {
  /** Workers; 1 unless told. */
  workers?: number;
  /** `worker_connections`; 2048 unless told. */
  connections?: number;
  /** `user` of the workers. Without it they run as the user who runs the tests. */
  user?: string;
  /** Directives of the main, http and server blocks. */
  main?: string;
  http?: string;
  server?: string;
  /** Lua of init_by_lua and init_worker_by_lua (before and after ts.start). */
  init?: string;
  beforeStart?: string;
  initWorker?: string;
  /** nginx location to the directives in it. */
  locations?: Record<string, string>;
  /** Calls ts.start with these options; false: the bridge is not loaded at all. */
  ts?: StartOptions | false;
  logLevel?: "debug" | "info" | "notice" | "warn";
}

export interface ConfigPlaces {
  prefix: string;
  /** Has lua/ in it. */
  projectRoot: string;
  /** As in `lua_package_cpath`. */
  cpath?: string;
  /** As in nginx's `listen`. */
  listen: string;
}

const MODULES = "/usr/lib/nginx/modules";

/** A value as a Lua expression. */
export function luaLiteral(value: LuaValue): string {
  if (typeof value === "string") return `"${value.replaceAll(/["\\\n]/g, "\\$&")}"`;
  if (typeof value !== "object") return String(value);
  if (Array.isArray(value)) return `{ ${value.map(luaLiteral).join(", ")} }`;
  const fields = Object.entries(value).map(([key, item]) => `["${key}"] = ${luaLiteral(item)}`);
  return `{ ${fields.join(", ")} }`;
}

function indent(text: string): string {
  return text.trim();
}

/** `<phase>_by_lua_block { ... }`, with `ts`, `t` (support.lua) at hand. */
export function luaPhase(phase: string, code: string): string {
  return `${phase}_by_lua_block {
    local ts, t = require "resty.ts", require "support"
    ${indent(code)}
  }`;
}

export const content = (code: string): string => luaPhase("content", code);

/** The same without the bridge, for configurations that do not load it. */
export function plainContent(code: string): string {
  return `content_by_lua_block { ${indent(code)} }`;
}

/** The Lua module `support` of the test locations. */
export const SUPPORT_LUA = `
local cjson = require "cjson.safe"
cjson.encode_sparse_array(true)

local t = {}

-- Answers the request with a call's results as JSON: { value, err, code }.
function t.reply(value, err, code)
    if type(value) == "cdata" then
        value = tostring(value)
    end
    ngx.header.content_type = "application/json"
    ngx.print((cjson.encode({ value = value, err = err, code = code })))
end

-- ts.start with the folders of this nginx, where the options do not name others.
function t.start(options)
    local prefix = ngx.config.prefix()
    options.modules = options.modules or prefix .. "modules"
    options.runtime_dir = options.runtime_dir or prefix .. "tmp"
    if options.plugins == "plugins" then
        options.plugins = prefix .. "plugins"
    end
    return require("resty.ts").start(options)
end

-- Keeps them for another request to read (t.recall), from phases that cannot answer.
function t.keep(name, value, err, code)
    ngx.shared.kept:set(name, (cjson.encode({ value = value, err = err, code = code })))
end

function t.recall(name)
    ngx.header.content_type = "application/json"
    ngx.print(ngx.shared.kept:get(name) or "null")
end

function t.json(value)
    ngx.header.content_type = "application/json"
    ngx.print((cjson.encode(value)))
end

return t
`;

function startBlock(parts: ConfigParts): string {
  if (parts.ts === undefined || parts.ts === false) return indent(parts.initWorker ?? "");
  return `${indent(parts.beforeStart ?? "")}
      local ts, t = require "resty.ts", require "support"
      local started, start_err, start_code = t.start ${luaLiteral(parts.ts)}
      if not started then
          ngx.log(ngx.ERR, "ts.start: ", start_err, " [", start_code, "]")
      end
      ${indent(parts.initWorker ?? "")}`;
}

export function renderConfig(parts: ConfigParts, places: ConfigPlaces): string {
  const { prefix } = places;
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${prefix}/temp/${name};`)
    .join("\n  ");
  const locations = Object.entries(parts.locations ?? {})
    .map(([path, body]) => `    location ${path} {\n  ${indent(body)}\n    }`)
    .join("\n");
  const initWorker = startBlock(parts);
  const bridge = parts.ts !== undefined && parts.ts !== false;
  const init = parts.init ? `init_by_lua_block {\n${indent(parts.init)}\n  }` : "";
  return `
daemon off;
pid ${prefix}/nginx.pid;
lock_file ${prefix}/nginx.lock;
error_log ${prefix}/logs/error.log ${parts.logLevel ?? "notice"};
load_module ${MODULES}/ndk_http_module.so;
load_module ${MODULES}/ngx_http_lua_module.so;
worker_processes ${String(parts.workers ?? 1)};
${parts.user ? `user ${parts.user};` : ""}
env TMPDIR=${prefix}/tmp;
${indent(parts.main ?? "")}
events { worker_connections ${String(parts.connections ?? 2048)}; }
http {
  access_log off;
  ${temp}
  default_type text/plain;
  client_max_body_size 256m;
  client_body_buffer_size 256m;
  lua_package_path "${prefix}/lua/?.lua;${places.projectRoot}/lua/?.lua;;";
  ${places.cpath === undefined ? "" : `lua_package_cpath "${places.cpath};;";`}
  lua_shared_dict kept 4m;
  ${indent(parts.http ?? "")}
  ${init}
  ${initWorker ? `init_worker_by_lua_block {\n      ${initWorker}\n  }` : ""}
  server {
    listen ${places.listen};
    ${indent(parts.server ?? "")}
    location = /_up { add_header x-worker $pid; return 204; }
    ${bridge ? `location = /_stats { ${content("t.json(ts.stats())")} }` : ""}
${locations}
  }
}
`;
}
