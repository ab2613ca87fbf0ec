/** The stand-in for APISIX in an nginx of its own: its configuration, and following changes. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ApisixOptions } from "./apisix.js";
import type { ApisixServer } from "./apisix-real.js";
import { until } from "./deadline.js";
import { makeClient } from "./gateway.js";
import { findPort, Nginx, type NginxOptions } from "./nginx.js";
import { PROJECT_ROOT } from "./project.js";

const STAND_IN = join(PROJECT_ROOT, "test", "support", "apisix");

const phase = (name: string, at = name): string =>
  `${at}_by_lua_block { require("stand_in.phases").${name}() }`;

const FILTERS = ["header_filter", "body_filter", "log"].map((name) => phase(name)).join("\n");

const PROXY = `
  proxy_http_version 1.1;
  proxy_set_header Host $upstream_host;
  proxy_set_header Upgrade $upstream_upgrade;
  proxy_set_header Connection $upstream_connection;
  proxy_set_header X-Real-IP $remote_addr;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_pass_header Date;
  proxy_pass $upstream_scheme://apisix_backend$upstream_uri;`;

const CACHE = `
  proxy_cache $upstream_cache_zone;
  proxy_cache_valid any 10s;
  proxy_cache_methods GET HEAD POST;
  proxy_cache_key $upstream_cache_key;
  proxy_no_cache $upstream_no_cache;
  proxy_cache_bypass $upstream_cache_bypass;`;

const VARIABLES = [
  "upstream_mirror_host",
  "upstream_mirror_uri",
  "upstream_upgrade",
  "upstream_connection",
  "upstream_uri",
  "upstream_cache_key",
  "upstream_cache_bypass",
  "upstream_no_cache",
];

const SET_VARIABLES = [
  ...VARIABLES.map((name) => `set $${name} '';`),
  "set $upstream_scheme http;",
  "set $upstream_host $http_host;",
  "set $upstream_cache_zone off;",
].join("\n");

/** As APISIX's nginx configuration, as far as plugins notice. */
function locationsOf(plugins: string[]): Record<string, string> {
  const cache = plugins.includes("proxy-cache") ? CACHE : "";
  const mirror = plugins.includes("proxy-mirror") ? "mirror /proxy_mirror;" : "";
  return {
    "/": [SET_VARIABLES, phase("access"), cache, PROXY, mirror, FILTERS].join("\n"),
    "@disable_proxy_buffering": [
      phase("redirected", "access"),
      PROXY,
      mirror,
      "proxy_buffering off;",
      FILTERS,
    ].join("\n"),
    ...(mirror && {
      "= /proxy_mirror": `
        internal;
        if ($upstream_mirror_uri = "") { return 200; }
        proxy_http_version 1.1;
        proxy_set_header Host $upstream_host;
        proxy_pass $upstream_mirror_uri;`,
    }),
  };
}

function httpOf(controlPort: number, dicts: string[]): string {
  return `
    ${dicts.map((name) => `lua_shared_dict ${name} 1m;`).join("\n")}
    lua_shared_dict stand_in 1m;
    lua_socket_log_errors off;
    proxy_cache_path temp/cache keys_zone=disk_cache_one:1m inactive=1d use_temp_path=off;
    upstream apisix_backend {
      server 0.0.0.1;
      ${phase("balancer")}
      keepalive 320;
      keepalive_timeout 1s;
    }
    ${phase("exit_worker")}
    server {
      listen 127.0.0.1:${String(controlPort)};
      location / { ${phase("control", "content")} }
    }`;
}

function configOf(options: ApisixOptions, plugins: string[]): string {
  return JSON.stringify({
    plugins,
    plugin_attr: options.pluginAttr ?? {},
    stand_in_provider: options.provider ?? "yaml",
    apisix: { enable_admin: false, enable_control: true },
    deployment: { role: "data_plane", role_data_plane: { config_provider: "yaml" } },
  });
}

function nginxOptions(options: ApisixOptions, file: unknown, controlPort: number): NginxOptions {
  const lua = Object.entries(options.lua ?? {}).map(([name, source]): [string, string] => [
    `lua/apisix/plugins/${name}.lua`,
    source,
  ]);
  return {
    ts: false,
    workers: options.workers ?? 1,
    allowLog: options.allowLog ?? [],
    init: `package.path = package.path .. ";${STAND_IN}/?.lua"`,
    initWorker: `require("stand_in.phases").init_worker()`,
    http: httpOf(controlPort, options.dicts ?? []),
    locations: locationsOf(options.plugins),
    files: {
      "conf/config.json": configOf(options, options.plugins),
      "conf/apisix.json": JSON.stringify(file),
      ...Object.fromEntries(lua),
      ...options.files,
    },
  };
}

interface FollowState {
  wanted: string;
  /** By process id. */
  taken: Record<string, string>;
}

export async function startStandIn(options: ApisixOptions, file: unknown): Promise<ApisixServer> {
  const controlPort = await findPort();
  const nginx = await Nginx.start(nginxOptions(options, file, controlPort));
  const control = makeClient("HTTP/1.1", controlPort);
  const put = async (path: string): Promise<void> => {
    const { status, text } = await control.ask(path, { method: "PUT" });
    if (status !== 200) throw new Error(`PUT ${path}: ${String(status)} ${text}`);
  };
  const allFollow = async (): Promise<void> => {
    let last = "";
    await until(
      "all workers have taken the change",
      async () => {
        const { wanted, taken } = (await control.ask("/stand-in/state")).json<FollowState>();
        last = JSON.stringify({ wanted, taken });
        return nginx.workerPids().every((pid) => taken[String(pid)] === wanted);
      },
      10_000,
      () => last,
    );
  };
  return {
    nginx,
    folder: nginx.prefix,
    port: nginx.port ?? 0,
    controlPort,
    errorLog: () => nginx.errorLog(),
    stop: () => nginx.stop(),
    reload: () => nginx.reload(),
    async change(changed) {
      writeFileSync(join(nginx.prefix, "conf", "apisix.json"), JSON.stringify(changed));
      await put("/stand-in/changed");
      await allFollow();
    },
    async reloadPlugins(plugins) {
      if (plugins !== undefined) {
        writeFileSync(join(nginx.prefix, "conf", "config.json"), configOf(options, plugins));
      }
      await put("/v1/plugins/reload");
      await allFollow();
    },
  };
}
