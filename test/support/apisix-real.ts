/**
 * A real APISIX for the same tests, where there is one: the environment variable RTS_APISIX names a
 * program that runs it. The tests call it with a command and a folder, which has config.yaml and
 * apisix.yaml (standalone mode):
 *
 *     PROGRAM up FOLDER       starts it; back when it serves
 *     PROGRAM changed FOLDER  apisix.yaml was written again; back when it is in effect
 *     PROGRAM reload FOLDER   `apisix reload`; back when the old workers are gone
 *     PROGRAM down FOLDER     ends it; back when it is gone
 *
 * What it logs is FOLDER/logs/error.log.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import type { ApisixOptions } from "./apisix.js";
import { makeClient } from "./gateway.js";
import { findPort, type Nginx } from "./nginx.js";
import { makeFolder, PROJECT_ROOT } from "./project.js";

export const realApisix = process.env.RTS_APISIX;

/** A running APISIX, or what stands in for it. */
export interface ApisixServer {
  /** The stand-in's. */
  nginx?: Nginx;
  folder: string;
  port: number;
  controlPort: number;
  errorLog(): string;
  change(file: unknown): Promise<void>;
  reload(): Promise<void>;
  reloadPlugins(plugins?: string[]): Promise<void>;
  stop(): Promise<void>;
}

const COMMAND_MS = 60_000;

function configOf(
  options: ApisixOptions,
  plugins: string[],
  places: { folder: string; port: number; controlPort: number },
): string {
  const listen = { ip: "127.0.0.1", port: places.port };
  const paths = [join(places.folder, "lua"), join(PROJECT_ROOT, "lua")];
  const config = {
    apisix: {
      node_listen: [listen],
      enable_admin: false,
      enable_control: true,
      control: { ip: "127.0.0.1", port: places.controlPort },
      extra_lua_path: paths.map((path) => `${path}/?.lua;`).join(""),
    },
    nginx_config: {
      worker_processes: options.workers ?? 1,
      user: "root",
      ...(options.logLevel === undefined ? {} : { error_log_level: options.logLevel }),
      http: {
        custom_lua_shared_dict: Object.fromEntries(
          (options.dicts ?? []).map((name) => [name, "1m"]),
        ),
      },
    },
    deployment: { role: "data_plane", role_data_plane: { config_provider: "yaml" } },
    plugins,
    plugin_attr: options.pluginAttr ?? {},
  };
  return JSON.stringify(config, null, 1).replaceAll("${{PREFIX}}", `${places.folder}/`);
}

export async function startRealApisix(
  options: ApisixOptions,
  file: unknown,
): Promise<ApisixServer> {
  const folder = makeFolder("apisix");
  const places = { folder, port: await findPort(), controlPort: await findPort() };
  const write = (name: string, text: string): void => {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  };
  const writeConfig = (plugins: string[]): void =>
    write("config.yaml", configOf(options, plugins, places));
  // YAML has JSON in it.
  const writeResources = (resources: unknown): void =>
    write("apisix.yaml", `${JSON.stringify(resources, null, 1)}\n#END\n`);
  const run = async (command: string): Promise<void> => {
    await promisify(execFile)(realApisix ?? "", [command, folder], { timeout: COMMAND_MS });
  };
  const errorLog = (): string => {
    const path = join(folder, "logs", "error.log");
    return existsSync(path) ? readFileSync(path, "utf8") : "";
  };

  for (const [name, source] of Object.entries(options.lua ?? {})) {
    write(`lua/apisix/plugins/${name}.lua`, source);
  }
  for (const [name, text] of Object.entries(options.files ?? {})) write(name, text);
  writeConfig(options.plugins);
  writeResources(file);
  await run("up");
  return {
    ...places,
    errorLog,
    async change(changed) {
      writeResources(changed);
      await run("changed");
    },
    reload: () => run("reload"),
    async reloadPlugins(plugins) {
      if (plugins !== undefined) {
        writeConfig(plugins);
        await run("configured");
      }
      const control = makeClient("HTTP/1.1", places.controlPort);
      const { status, text } = await control.ask("/v1/plugins/reload", { method: "PUT" });
      if (status !== 200) throw new Error(`PUT /v1/plugins/reload: ${String(status)} ${text}`);
      await run("changed");
    },
    async stop() {
      await run("down");
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
