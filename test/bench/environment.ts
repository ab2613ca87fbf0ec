// What the figures were measured on.
import { spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { cpus, release, totalmem, type } from "node:os";
import { join } from "node:path";

import { allowedCpus } from "./placement.ts";
import { PROJECT_DIR } from "./support.ts";

const BUILD_DIR = join(PROJECT_DIR, "build", "Release");

/** The first line that matches in what the command prints, wherever it prints it. */
function ask(command: string, args: readonly string[], wanted: RegExp): string {
  const { error, stdout, stderr } = spawnSync(command, args, { encoding: "utf8" });
  if (error !== undefined) return "not installed";
  return wanted.exec(stdout + stderr)?.[1] ?? "unknown";
}

/** The ABIs (NODE_MODULE_VERSION) that backends are built for. */
function backends(): string {
  const names = existsSync(BUILD_DIR) ? readdirSync(BUILD_DIR) : [];
  const abis = names.map((name) => /^libresty_ts_node(\d+)\.so$/.exec(name)?.[1]);
  return abis.filter((abi) => abi !== undefined).join(", ") || "none built";
}

/** True when the library that the `ts` target needs has been built. */
export function bridgeIsBuilt(): boolean {
  return existsSync(join(BUILD_DIR, "libresty_ts.so"));
}

export function describeEnvironment(): [name: string, value: string][] {
  return [
    ["cores", `${String(allowedCpus.length)} × ${cpus()[0]?.model.trim() ?? "unknown"}`],
    ["memory", `${(totalmem() / 2 ** 30).toFixed(1)} GiB`],
    ["kernel", `${type()} ${release()}`],
    ["nginx", ask("nginx", ["-v"], /nginx\/(\S+)/)],
    ["luajit", ask("luajit", ["-v"], /^LuaJIT (\S+)/)],
    ["wrk", ask("wrk", ["-v"], /^wrk (\S+)/)],
    ["node (server of `proxy`)", `${process.version}, abi ${process.versions.modules}`],
    ["libnode abi of the bridge", backends()],
  ];
}
