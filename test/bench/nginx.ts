// A stock nginx that serves every target, in a temporary prefix of its own.
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { Agent, type IncomingHttpHeaders, request } from "node:http";
import { createServer } from "node:net";
import { join } from "node:path";

import { until } from "../support/deadline.js";
import { childrenOf } from "../support/proc.js";
import { BENCH_DIR, PROJECT_DIR, whenExited } from "./support.ts";

const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;
const MODULES = ["ndk_http_module", "ngx_http_lua_module", "ngx_http_js_module"];
const MODULE_DIRS = ["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"];

export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

export interface SiteOptions {
  readonly workers: number;
  /** Lua for init_worker_by_lua_block. */
  readonly init: string;
  readonly locations: string;
  /** Where the Node HTTP server listens, if one does. */
  readonly serverSocket?: string;
}

export interface Site {
  readonly url: string;
  readonly workerPids: readonly number[];
  get(path: string, headers?: Readonly<Record<string, string>>): Promise<Answer>;
  errorLog(): string;
  stop(): Promise<void>;
}

function moduleLines(): string {
  const dir = MODULE_DIRS.find((candidate) => existsSync(candidate));
  if (dir === undefined) {
    throw new Error(`no nginx module directory: looked for ${MODULE_DIRS.join(", ")}`);
  }
  return MODULES.map((name) => `load_module ${dir}/${name}.so;`).join("\n");
}

/** The worker keeps root where root starts it: it must reach the project and Node's socket. */
function userLine(): string {
  return process.getuid?.() === 0 ? "user root;" : "";
}

function configText(port: number, options: SiteOptions): string {
  const { workers, init, locations, serverSocket = "/dev/null" } = options;
  // Without it one of two workers takes nearly all of 16 connections that come at once.
  const reuseport = workers > 1 ? "reuseport" : "";
  const luaPath = `${join(BENCH_DIR, "lua")}/?.lua;${join(PROJECT_DIR, "lua")}/?.lua;;`;
  return `
daemon off;
worker_processes ${String(workers)};
pid nginx.pid;
error_log error.log warn;
${userLine()}
${moduleLines()}
events { worker_connections 4096; }
http {
  access_log off;
  default_type text/plain;
  keepalive_requests 1000000000;
  keepalive_timeout 1h;
  client_body_temp_path temp/body;
  proxy_temp_path temp/proxy;
  fastcgi_temp_path temp/fastcgi;
  uwsgi_temp_path temp/uwsgi;
  scgi_temp_path temp/scgi;
  lua_package_path "${luaPath}";
  js_path ${join(BENCH_DIR, "handlers")};
  js_import bench from bench.njs.js;
  js_set $bench_field bench.field;
  init_worker_by_lua_block { ${init} }
  upstream node_server {
    server unix:${serverSocket};
    keepalive 128;
    keepalive_requests 1000000000;
    keepalive_timeout 1h;
  }
  server {
    listen 127.0.0.1:${String(port)} ${reuseport};
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location = /up { return 204; }
    ${locations}
  }
}
`;
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once("error", reject);
    probe.listen(0, "127.0.0.1", () => {
      const address = probe.address();
      probe.close(() => {
        if (address === null || typeof address === "string") reject(new Error("no port"));
        else resolve(address.port);
      });
    });
  });
}

function get(
  agent: Agent,
  port: number,
  path: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const outgoing = request(
      { agent, host: "127.0.0.1", port, path, headers, timeout: START_TIMEOUT_MS },
      (incoming) => {
        let body = "";
        incoming.setEncoding("utf8");
        incoming.on("data", (chunk: string) => (body += chunk));
        incoming.on("error", reject);
        incoming.on("end", () => {
          resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body });
        });
      },
    );
    outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer from ${path}`)));
    outgoing.on("error", reject);
    outgoing.end();
  });
}

async function stopNginx(master: ChildProcess): Promise<void> {
  if (master.exitCode !== null || master.signalCode !== null) return;
  master.kill("SIGTERM");
  if (await whenExited(master, STOP_TIMEOUT_MS)) return;
  // A worker does not die with a killed master: it goes first.
  for (const pid of childrenOf(master.pid ?? NaN)) process.kill(pid, "SIGKILL");
  master.kill("SIGKILL");
  await whenExited(master, STOP_TIMEOUT_MS);
  throw new Error(`nginx did not end within ${String(STOP_TIMEOUT_MS)} ms of TERM; killed`);
}

/** Starts nginx in `prefix` (created, and removed by `stop`) and waits until its worker answers. */
export async function startNginx(prefix: string, options: SiteOptions): Promise<Site> {
  mkdirSync(join(prefix, "temp"), { recursive: true });
  chmodSync(prefix, 0o755);
  const errorLogFile = join(prefix, "error.log");
  const errorLog = (): string => {
    return existsSync(errorLogFile) ? readFileSync(errorLogFile, "utf8") : "";
  };
  const port = await freePort();
  const configFile = join(prefix, "nginx.conf");
  writeFileSync(configFile, configText(port, options));

  const master = spawn("nginx", ["-p", prefix, "-c", configFile, "-e", errorLogFile], {
    stdio: ["ignore", "ignore", "inherit"],
  });
  const spawnError = new Promise<never>((_, reject) => {
    master.once("error", (cause) => {
      reject(new Error("nginx cannot be started: is it installed?", { cause }));
    });
  });
  const agent = new Agent({ keepAlive: true });

  const answers = async (): Promise<boolean> => {
    if (master.exitCode !== null) throw new Error(`nginx ended at start:\n${errorLog()}`);
    try {
      return (await get(agent, port, "/up")).status === 204;
    } catch {
      return false;
    }
  };
  const workersOnceUp = async (): Promise<number[]> => {
    await until("nginx answers", answers, START_TIMEOUT_MS, () => errorLog().slice(-4000));
    return until(
      "nginx has its workers",
      () => {
        const pids = childrenOf(master.pid ?? NaN);
        return pids.length === options.workers && pids;
      },
      START_TIMEOUT_MS,
    );
  };

  const stop = async (): Promise<void> => {
    agent.destroy();
    await stopNginx(master);
    rmSync(prefix, { recursive: true, force: true });
  };
  let workerPids: number[];
  try {
    workerPids = await Promise.race([workersOnceUp(), spawnError]);
  } catch (error) {
    if (master.pid !== undefined) await stop();
    throw error;
  }
  return {
    url: `http://127.0.0.1:${String(port)}`,
    workerPids,
    get: (path, headers) => get(agent, port, path, headers),
    errorLog,
    stop,
  };
}
