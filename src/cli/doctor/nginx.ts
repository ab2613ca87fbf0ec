/**
 * nginx, its Lua module, lua-resty-core and our Lua files: nginx itself is asked, by a configuration of
 * ours that ends it before it would listen anywhere.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { PACKAGE } from "../package.js";
import { type NginxConfig, readConfig } from "./config.js";
import { fault, type Finding, ok } from "./finding.js";
import type { Machine } from "./machine.js";

export interface NginxPlace {
  readonly program: string;
  readonly prefix: string;
  /** The user that it was built to give its workers. */
  readonly user: string;
  readonly config: NginxConfig;
}

export interface NginxReport {
  readonly findings: readonly Finding[];
  readonly nginx: NginxPlace | undefined;
  /** libresty_ts.so, where the Lua files find it. */
  readonly library: string | undefined;
}

/** This package's. */
const OWN_LUA = path.join(PACKAGE, "lua");
const LUA_MODULE = "ngx_http_lua_module.so";
/** What it needs before it. */
const NDK_MODULE = "ndk_http_module.so";

const PROBE = `
local function tell(...) io.stdout:write("resty-ts-doctor ", table.concat({ ... }, " "), "\\n") end
tell("lua", tostring(ngx.config.ngx_lua_version))
tell("luajit", jit.version)
local has_core, core = pcall(require, "resty.core")
tell(has_core and "core" or "no-core", tostring(has_core and core.version or core))
local has_files, native = pcall(require, "resty.ts.native")
if not has_files then
  tell("no-files", tostring(native))
else
  local lib, path = native.load(LIBRARY)
  tell(lib and "library" or "no-library", tostring(path))
end
io.stdout:flush()
os.exit(0)
`;

/** 10023 as 0.10.23. */
function moduleVersion(number: string): string {
  const value = Number(number);
  return `${Math.floor(value / 1e6)}.${Math.floor(value / 1e3) % 1e3}.${value % 1e3}`;
}

const firstLine = (text: string): string => text.trim().split("\n")[0] ?? "";

/** Runs it. @returns what it told, by its first words, and what nginx said. */
function probe(
  machine: Machine,
  program: string,
  config: NginxConfig,
  modules: readonly string[],
): { told: ReadonlyMap<string, string>; stderr: string } {
  const folder = mkdtempSync(path.join(tmpdir(), "resty-ts-doctor-"));
  try {
    const { packagePath, packageCpath, options } = config;
    const library = options.get("library");
    const lines = [
      ...modules.map((file) => `load_module "${file}";`),
      "daemon off; master_process off;",
      `pid "${folder}/pid"; error_log stderr error;`,
      "events {}",
      "http {",
      "access_log off;",
      packagePath === undefined ? "" : `lua_package_path "${packagePath}";`,
      packageCpath === undefined ? "" : `lua_package_cpath "${packageCpath}";`,
      `init_by_lua_block {${PROBE.replace("LIBRARY", library === undefined ? "" : JSON.stringify(library))}}`,
      "}",
    ];
    const file = path.join(folder, "nginx.conf");
    writeFileSync(file, `${lines.join("\n")}\n`);
    const { stdout, stderr } = machine.run(program, "-p", folder, "-c", file);
    const told = new Map<string, string>();
    let last = "";
    for (const line of stdout.split("\n")) {
      const [, name, value] = /^resty-ts-doctor (\S+) (.*)$/.exec(line) ?? [];
      if (name !== undefined) told.set((last = name), value ?? "");
      else if (last !== "" && line !== "") told.set(last, `${told.get(last) ?? ""}\n${line}`);
    }
    return { told, stderr };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function probeFindings(told: ReadonlyMap<string, string>, stderr: string): Finding[] {
  const findings: Finding[] = [];
  const lua = told.get("lua");
  const core = told.get("core");
  const noCore = told.get("no-core");
  if (lua !== undefined) {
    const text = `lua-nginx-module ${moduleVersion(lua)}, ${told.get("luajit") ?? "?"}`;
    findings.push(ok("lua-nginx-module", text));
  }
  if (core !== undefined) findings.push(ok("lua-resty-core", `lua-resty-core ${core}`));
  if (noCore !== undefined || /'resty\.core' module/.test(stderr)) {
    const text = `lua-resty-core does not load: ${firstLine(noCore ?? stderr)}`;
    const cure =
      "apt-get install lua-resty-core (the version that your lua-nginx-module names), and keep the " +
      'default folders by ";;" at the end of lua_package_path';
    findings.push(fault("lua-resty-core", text, cure));
  } else if (lua === undefined) {
    const text = `nginx could not be asked: ${firstLine(stderr) || "it said nothing"}`;
    findings.push(fault("lua-nginx-module", text, "see what it says; `nginx -t` may say more"));
  }
  return findings;
}

function libraryFindings(told: ReadonlyMap<string, string>): Finding[] {
  const noFiles = told.get("no-files");
  const noLibrary = told.get("no-library");
  if (noFiles !== undefined) {
    const text = `the Lua files of resty-ts are not found: ${firstLine(noFiles).replace(/:$/, "")}`;
    const cure = `lua_package_path "${OWN_LUA}/?.lua;;" in the http block, or wherever they are`;
    return [fault("resty-ts", text, cure)];
  }
  if (noLibrary === undefined) return [];
  const cure =
    "put libresty_ts.so of this version, for this machine, on lua_package_cpath or where it was " +
    "looked for (npm run build, or a prebuilt one), or name it by ts.start{ library = … }";
  return [fault("resty-ts", `libresty_ts.so does not load: ${firstLine(noLibrary)}`, cure)];
}

/** nginx, and the modules that it must load to have Lua. */
export interface FoundNginx {
  readonly program: string;
  readonly version: string;
  readonly prefix: string;
  /** The user and the configuration that it was built with. */
  readonly user: string;
  readonly file: string;
  /** None where Lua is built in. */
  readonly modules: readonly string[];
}

/** @returns it, or what is wrong with it; `modules`: or why it has no Lua. */
function ask(
  machine: Machine,
  name: string,
): Finding | (Omit<FoundNginx, "modules"> & { readonly modules: readonly string[] | Finding }) {
  const program = machine.program(name);
  if (program === undefined) {
    const where = name === "nginx" ? "neither on the PATH nor in the usual folders" : name;
    const cure =
      "apt-get install nginx libnginx-mod-http-lua, or install OpenResty; --nginx names one elsewhere";
    return fault("nginx", `there is no nginx: ${where}`, cure);
  }
  const built = machine.run(program, "-V");
  const words = `${built.stdout}\n${built.stderr}`;
  const version = /version: (\S+)/.exec(words)?.[1];
  if (version === undefined) {
    const text = `${program} does not run: ${firstLine(built.stderr) || "it said nothing"}`;
    const cure =
      "run `nginx -V` yourself: a library of it is missing, or it is for another machine";
    return fault("nginx", text, cure);
  }
  const option = (each: string): string | undefined =>
    new RegExp(`--${each}=(\\S+)`).exec(words)?.[1];
  const prefix = option("prefix") ?? "/usr/local/nginx";
  const folder = option("modules-path") ?? path.join(prefix, "modules");
  const isBuiltIn = /--add-module=\S*(ngx_lua|lua-nginx-module)/.test(words);
  return {
    program,
    version,
    prefix,
    user: option("user") ?? "nobody",
    file: option("conf-path") ?? path.join(prefix, "conf/nginx.conf"),
    modules: isBuiltIn ? [] : luaModules(machine, folder),
  };
}

function luaModules(machine: Machine, folder: string): readonly string[] | Finding {
  const module = path.join(folder, LUA_MODULE);
  if (machine.exists(module)) {
    return [path.join(folder, NDK_MODULE), module].filter((each) => machine.exists(each));
  }
  const text = `nginx has no Lua module: none is built in, and ${module} is not there`;
  return fault("lua-nginx-module", text, "apt-get install libnginx-mod-http-lua, or use OpenResty");
}

/** @param name of it, or its file. @returns an nginx that has Lua, or what is wrong. */
export function findNginx(machine: Machine, name = "nginx"): FoundNginx | Finding {
  const found = ask(machine, name);
  if ("check" in found) return found;
  const { modules } = found;
  return "check" in modules ? modules : { ...found, modules };
}

/** @param given by --nginx and --nginx-conf. */
export function lookAtNginx(
  machine: Machine,
  given: { readonly nginx?: string; readonly conf?: string },
): NginxReport {
  const found = ask(machine, given.nginx ?? "nginx");
  if ("check" in found) return { findings: [found], nginx: undefined, library: undefined };
  const { program, version, prefix, user, modules: known } = found;
  const file = given.conf ?? found.file;
  const config = readConfig(machine, file, prefix);
  const nginx = { program, prefix, user, config };
  const findings = [ok("nginx", `${version} (${program})`)];
  if (!machine.exists(file)) {
    const cure = "--nginx-conf names the one that you use";
    findings.push(fault("nginx", `its configuration ${file} is not there`, cure));
  }
  const isLoaded = config.modules.some((each) => path.basename(each) === LUA_MODULE);
  if (!isLoaded && "check" in known) {
    return { findings: [...findings, known], nginx, library: undefined };
  }
  let { modules } = config;
  if (!isLoaded && !("check" in known) && known.length > 0) {
    modules = known;
    const text = `${known.at(-1) ?? ""} is there, and ${file} does not load it`;
    const cure = `at its top: ${known.map((each) => `load_module ${each};`).join(" ")}`;
    findings.push(fault("lua-nginx-module", text, cure));
  }
  const { told, stderr } = probe(machine, program, config, modules);
  findings.push(...probeFindings(told, stderr), ...libraryFindings(told));
  return { findings, nginx, library: told.get("library") };
}
