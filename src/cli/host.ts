/**
 * `resty-ts host`: the host as a program, for workers that connect to it.
 *
 * Thread: the process's main one; each worker's environment is a thread of its own. The host is in the
 * bundle: this imports none of it.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "./exit.js";
import { platform } from "./platform.js";

const inDist = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));

function findAddon(): string | undefined {
  return [".", `../prebuilds/${platform}`, "../build/Release"]
    .map((folder) => inDist(`${folder}/resty_ts.node`))
    .find(existsSync);
}

/** Returns at once; the host runs until a signal ends it. @throws {UsageError} */
export function runHost(listen: string, addon = findAddon()): void {
  if (addon === undefined) throw new UsageError("resty_ts.node was not found: give it by --addon");
  if (!existsSync(addon)) throw new UsageError(`${addon} is not there: --addon is resty_ts.node`);
  const host = createRequire(import.meta.url)(inDist("host.cjs")) as {
    runProgram(args: string[]): void;
  };
  try {
    host.runProgram([`--addon=${resolve(addon)}`, `--listen=${resolve(listen)}`]);
  } catch (error) {
    throw new UsageError((error as Error).message, { cause: error });
  }
}
