// What nginx serves for each target: one location a case.
import { join } from "node:path";

import type { ServedTarget } from "./cases.ts";
import { JWT_SECRET } from "./jwt.ts";
import type { SiteOptions } from "./nginx.ts";
import { BENCH_DIR } from "./support.ts";

interface NodeOptions {
  /** The program of the process runtime; left out: the embedded one. */
  readonly node?: string;
  /** The bridge's option `spin_us`; its default if left out. */
  readonly spinUs?: number;
  /** The plugins' folder. */
  readonly plugins?: string;
}

interface LocationOptions extends NodeOptions {
  readonly targets: readonly ServedTarget[];
}

/** A location with Lua blocks by the names of their phases. */
export function location(path: string, blocks: Readonly<Record<string, string>>): string {
  const lines = Object.entries(blocks).map(([phase, lua]) => `${phase}_by_lua_block { ${lua} }`);
  return `location = ${path} { ${lines.join("\n")} }`;
}

/** A call of a function of the benchmark's Lua files. */
export function call(file: string, name: string, argument = ""): string {
  return `require("${file}").${name}(${argument})`;
}

const lua = (name: string, argument?: string): string => call("bench_lua", name, argument);
const ts = (name: string): string => call("bench_ts", name);
export const plugin = (phase: string, name: string, conf?: string): string => {
  return call("resty.ts.http", phase, `"bench-${name}"` + (conf === undefined ? "" : `, ${conf}`));
};

// Where a request goes on after the access phase, and what filters get.
const OK = lua("ok");
const USER = lua("user");
const FIELD = lua("field");
// May have the response field, too: the plugin's is to take its place.
const UPSTREAM = lua("upstream");
const BODY = lua("answer", "1024");
const BODY_100K = lua("answer", "100 * 1024");

function pluginBody(path: string, content: string): string {
  return location(path, {
    content,
    header_filter: plugin("header_filter", "body"),
    body_filter: plugin("body_filter", "body"),
  });
}

/** njs has no access phase, and its filters are directives of their own. */
function njsFilters(path: string, content: string, directives: string): string {
  return `location = ${path} { content_by_lua_block { ${content} } ${directives} }`;
}

const NJS_FIELD = "ngx.print(ngx.var.bench_field)";

const LOCATIONS: Readonly<Record<ServedTarget, readonly string[]>> = {
  lua: [
    location("/lua/echo", { content: lua("echo") }),
    location("/lua/header", { content: lua("header") }),
    location("/lua/jwt", { access: lua("jwt", `"${JWT_SECRET}"`), content: USER }),
    location("/lua/fields", { access: lua("fields"), content: OK }),
    location("/lua/access", { access: lua("set_field"), content: FIELD }),
    location("/lua/headers", { content: OK, header_filter: lua("set_response_field") }),
    location("/lua/filter", {
      access: lua("set_field"),
      content: FIELD,
      header_filter: lua("set_response_field"),
    }),
    location("/lua/declared", {
      access: lua("set_field"),
      content: UPSTREAM,
      header_filter: lua("set_response_field"),
    }),
    location("/lua/kept", {
      access: lua("set_both"),
      content: UPSTREAM,
      header_filter: lua("set_kept"),
    }),
    location("/lua/body", { content: BODY, body_filter: lua("mask") }),
    location("/lua/body-100k", { content: BODY_100K, body_filter: lua("mask") }),
  ],
  yield: [location("/yield/echo", { content: call("bench_yield", "echo") })],
  ts: [
    location("/ts/echo", { content: ts("echo") }),
    location("/ts/header", { content: ts("header") }),
    location("/ts/jwt", {
      access: plugin("access", "jwt", `{ secret = "${JWT_SECRET}" }`),
      content: USER,
    }),
    location("/ts/fields", { access: plugin("access", "fields"), content: OK }),
    location("/ts/access", { access: plugin("access", "access"), content: FIELD }),
    location("/ts/headers", { content: OK, header_filter: plugin("header_filter", "headers") }),
    location("/ts/filter", {
      access: plugin("access", "filter"),
      content: FIELD,
      header_filter: plugin("header_filter", "filter"),
    }),
    location("/ts/declared", {
      access: plugin("access", "declared", `{ value = "1" }`),
      content: UPSTREAM,
      header_filter: plugin("header_filter", "declared"),
    }),
    location("/ts/kept", {
      access: plugin("access", "kept"),
      content: UPSTREAM,
      header_filter: plugin("header_filter", "kept"),
    }),
    pluginBody("/ts/body", BODY),
    pluginBody("/ts/body-100k", BODY_100K),
    location("/ts/burn", { content: ts("burn") }),
    location("/ts/stats", { content: ts("stats") }),
  ],
  njs: [
    ...["echo", "header", "jwt", "fields", "burn"].map((name) => {
      return `location = /njs/${name} { js_content bench.${name}; }`;
    }),
    njsFilters("/njs/headers", OK, "js_header_filter bench.setResponseField;"),
    njsFilters("/njs/filter", NJS_FIELD, "js_header_filter bench.setResponseField;"),
    njsFilters("/njs/body", BODY, "js_body_filter bench.mask;"),
    njsFilters("/njs/body-100k", BODY_100K, "js_body_filter bench.mask;"),
  ],
  proxy: ["location /proxy/ { proxy_pass http://node_server; }"],
};

// A late filter would be left out, and its answer counted as if it had run.
export const DEADLINES = { timeout_ms: 10_000, sync_timeout_ms: 10_000 };

/** Lua that starts the bridge. */
export function startNode(options: NodeOptions = {}): string {
  const { node, spinUs, plugins = join(BENCH_DIR, "plugins") } = options;
  const spin = spinUs === undefined ? "" : `spin_us = ${String(spinUs)},`;
  const deadlines = Object.entries(DEADLINES).map(([name, ms]) => `${name} = ${String(ms)}`);
  const runtime = node === undefined ? `"embedded"` : `"process", node = "${node}"`;
  return `assert(require("resty.ts").start({
    modules = "${join(BENCH_DIR, "handlers")}", plugins = "${plugins}", ${spin}
    runtime = ${runtime}, ${deadlines.join(", ")},
  }))`;
}

/** What an nginx for the targets is started with. */
export function serving(options: LocationOptions): Pick<SiteOptions, "init" | "locations"> {
  const locations = options.targets.flatMap((target) => LOCATIONS[target]).join("\n");
  const starts: Partial<Record<ServedTarget, string>> = {
    ts: startNode(options),
    yield: call("bench_yield", "start"),
  };
  return { init: options.targets.map((one) => starts[one] ?? "").join("\n"), locations };
}
