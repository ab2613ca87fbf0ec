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
  /** Of this package: the folder that `lua` and `templates` are in. */
  readonly root: string;
  /** load_module's. */
  readonly modules: readonly string[];
  /** The inspector's port. */
  readonly inspect: number | undefined;
}

/** What a line of its stdout says. */
export type DevEvent =
  | { readonly event: "ready" }
  | { readonly event: "failed"; readonly why: string }
  | {
      readonly event: "request";
      readonly method: string;
      readonly uri: string;
      readonly status: number;
      readonly ms: number;
      /** Phase -> ms, of those that ran. */
      readonly phases: Readonly<Record<string, number>>;
    };

/** So that a breakpoint may hold a handler. */
const UNHURRIED = "timeout_ms = 3600000, stall_ms = 3600000, sync_timeout_ms = 60000,";

function luaText(text: string): string {
  const bytes = Buffer.from(text, "utf8").toString("latin1");
  const escaped = bytes.replaceAll(
    /[^ !#-[\]-~]/g,
    (char) => `\\${String(char.charCodeAt(0)).padStart(3, "0")}`,
  );
  return `"${escaped}"`;
}

/** As an expression where `ts` is resty.ts. */
function luaValue(value: unknown): string {
  if (typeof value === "string") return luaText(value);
  if (Array.isArray(value)) return `ts.array { ${value.map(luaValue).join(", ")} }`;
  if (typeof value !== "object") return JSON.stringify(value);
  if (value === null) return "ts.null";
  const fields = Object.entries(value).map(
    ([key, item]) => `[${luaText(key)}] = ${luaValue(item)}`,
  );
  return `{ ${fields.join(", ")} }`;
}

const phase = (name: string): string =>
  `${name}_by_lua_block { (require "resty_ts_dev").run("${name}") }`;

function location({ path: where, upstream }: Route, name: string): string {
  const end = upstream === undefined ? phase("content") : `proxy_pass ${upstream};`;
  const phases = ["rewrite", "access", "header_filter", "body_filter"].map(phase);
  return [
    `location ${where} {`,
    `  set $resty_ts_route ${name};`,
    ...[...phases, 'log_by_lua_block { (require "resty_ts_dev").log() }', end].map(
      (line) => `  ${line}`,
    ),
    "}",
  ].join("\n    ");
}

/** nginx.conf. */
export function devConfig({ routes }: ProjectFile, places: DevPlaces): string {
  const { prefix, port, plugins, root, modules, inspect } = places;
  const temp = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  const chains = routes.map(({ plugins: chain }, i) => {
    const members = chain.map(
      ({ name, conf }) => `{ name = ${luaText(name)}, conf = ${luaValue(conf ?? {})} }`,
    );
    return `route_${i} = { ${members.join(", ")} },`;
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
  lua_package_path "${path.join(root, "templates/dev")}/?.lua;${path.join(root, "lua")}/?.lua;;";
  init_worker_by_lua_block {
    (require "resty_ts_dev").start({
      plugins = ${luaText(plugins)}, watch = true, runtime_dir = ${luaText(prefix)},
      ${inspect === undefined ? "" : `inspect = "127.0.0.1:${inspect}", ${UNHURRIED}`}
    }, function(ts)
      return {
        ${chains.join("\n        ")}
      }
    end)
  }
  server {
    listen 127.0.0.1:${port};
    ${routes.map((route, i) => location(route, `route_${i}`)).join("\n    ")}
  }
}
`;
}
