#!/usr/bin/env node
/**
 * The command `resty-ts`: what it takes, and how it ends. docs/cli.md has it for users.
 *
 * Thread: the process's main one. Invariant: stdout has the result and nothing else. What a command
 * needs is loaded when it is run: the host's environments start without the rest.
 */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import { registerApisix } from "./commands/apisix.js";
import { registerBuild } from "./commands/build.js";
import { registerBundle } from "./commands/bundle.js";
import { registerCheck } from "./commands/check.js";
import { registerDev } from "./commands/dev.js";
import { registerDoctor } from "./commands/doctor.js";
import { registerHost } from "./commands/host.js";
import { registerInit } from "./commands/init.js";
import { ExitCode, finish, UsageError, WrongError } from "./exit.js";

const manifest = new URL("../../package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };

const program = new Command("resty-ts")
  .description("TypeScript plugins for nginx, OpenResty and Apache APISIX")
  .version(version)
  .exitOverride()
  .showHelpAfterError("(--help has the options, and examples)")
  .addHelpText(
    "after",
    `
Examples:
  resty-ts init gateway        # then npm install, npm test and npm run dev in it
  resty-ts doctor              # what this machine lacks
  resty-ts dev --help

Exit codes: 0 done; 1 something is wrong with a plugin, a configuration or the machine, or
--check has found a difference; 2 the command cannot be carried out as it was given.`,
  );

registerInit(program);
registerDev(program);
registerCheck(program);
registerBuild(program);
registerBundle(program);
registerDoctor(program);
registerApisix(program);
registerHost(program);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed it.
    finish(error.exitCode === 0 ? ExitCode.ok : ExitCode.usage);
  } else if (error instanceof UsageError) {
    process.stderr.write(`${error.message}\n`);
    finish(ExitCode.usage);
  } else if (error instanceof WrongError) {
    process.stderr.write(`error: ${error.message}\n`);
    finish(ExitCode.wrong);
  } else {
    throw error;
  }
}
