#!/usr/bin/env node
/**
 * The command `resty-ts`.
 *
 * Thread: the process's main one. The host is in the bundle beside us: this imports none of it.
 */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const USAGE = `usage: resty-ts host --listen PATH [--addon FILE]

  host   runs handlers for the nginx workers whose ts.start has connect = PATH, until a signal ends it.
         Under a debugger: node --inspect node_modules/.bin/resty-ts host --listen PATH
  PATH   of a socket, which is made for your own user (and root) alone
  FILE   resty_ts.node; else beside the bundle, or in the project's build/Release`;

const inDist = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url));

function findAddon(): string | undefined {
  return [inDist("resty_ts.node"), inDist("../build/Release/resty_ts.node")].find(existsSync);
}

function stop(text: string): never {
  console.error(text);
  process.exit(2);
}

function parse(): { command: string | undefined; listen?: string; addon?: string } {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: { listen: { type: "string" }, addon: { type: "string" } },
    });
    return { command: positionals.length === 1 ? positionals[0] : undefined, ...values };
  } catch (error) {
    return stop(`${(error as Error).message}\n\n${USAGE}`);
  }
}

const { command, listen, addon = findAddon() } = parse();
if (command !== "host" || listen === undefined) stop(USAGE);
if (addon === undefined) stop("resty_ts.node was not found: give it by --addon");
const host = createRequire(import.meta.url)(inDist("host.cjs")) as {
  runProgram(args: string[]): void;
};
try {
  host.runProgram([`--addon=${resolve(addon)}`, `--listen=${resolve(listen)}`]);
} catch (error) {
  stop((error as Error).message);
}
