#!/usr/bin/env node
/**
 * The command `resty-ts`: what it takes, and how it ends. docs/cli.md has it for users.
 *
 * Thread: the process's main one. Invariant: stdout has the result and nothing else. What a command
 * needs is loaded when it is run: the host's environments start without the rest.
 */
import { readFileSync } from "node:fs";
import { Command, CommanderError } from "commander";
import type { Report } from "./apisix/generate.js";
import { ExitCode, UsageError } from "./exit.js";

interface GenerateFlags {
  readonly plugins: string;
  readonly out: string;
  readonly prefix: string;
  readonly check?: true;
  readonly json?: true;
}

const manifest = new URL("../../package.json", import.meta.url);
const { version } = JSON.parse(readFileSync(manifest, "utf8")) as { version: string };

/** Ends the process once stdout has all of it: a plugin may have left something open. */
function finish(code: number, output = ""): void {
  process.stdout.write(output, () => process.exit(code));
}

/** What the command prints: for people, or for programs. */
function shown({ files }: Report, { check, json }: GenerateFlags): string {
  if (json) return `${JSON.stringify(files, undefined, 2)}\n`;
  const verb = check ? "differs  " : "wrote    ";
  return files.map(({ file, changed }) => `${changed ? verb : "unchanged"} ${file}\n`).join("");
}

async function runGenerate(names: string[], flags: GenerateFlags): Promise<void> {
  const { PluginFolder } = await import("./plugin-files.js");
  const { generate } = await import("./apisix/generate.js");
  const { out, prefix, check = false } = flags;
  const report = await generate(new PluginFolder(flags.plugins), names, { out, prefix, check });
  for (const warning of report.warnings) process.stderr.write(`warning: ${warning}\n`);
  for (const problem of report.problems) process.stderr.write(`error: ${problem}\n`);
  const differs = check && report.files.some(({ changed }) => changed);
  finish(
    report.problems.length > 0 || differs ? ExitCode.wrong : ExitCode.ok,
    shown(report, flags),
  );
}

const program = new Command("resty-ts")
  .description("TypeScript plugins for nginx, OpenResty and Apache APISIX")
  .version(version)
  .exitOverride()
  .showHelpAfterError("(--help has the options, and examples)")
  .addHelpText(
    "after",
    `
Exit codes: 0 done; 1 something is wrong with a plugin, or --check has found a difference;
2 the command cannot be carried out as it was given.`,
  );

program
  .command("host")
  .description("run handlers for the nginx workers whose ts.start has connect = PATH")
  .requiredOption("--listen <path>", "a socket, which is made for your own user (and root) alone")
  .option("--addon <file>", "resty_ts.node; else beside the bundle, or in build/Release")
  .addHelpText(
    "after",
    `
Runs until a signal ends it.

Examples:
  resty-ts host --listen /tmp/resty-ts.sock
  node --inspect node_modules/.bin/resty-ts host --listen /tmp/resty-ts.sock`,
  )
  .action(async ({ listen, addon }: { listen: string; addon?: string }) => {
    const { runHost } = await import("./host.js");
    runHost(listen, addon);
  });

program
  .command("apisix")
  .description("what Apache APISIX needs of plugins")
  .command("generate")
  .description("write the Lua file of each plugin, by which APISIX has it as a plugin of its own")
  .argument("[names...]", "of plugins; else all that are in the folder")
  .requiredOption("--plugins <dir>", "the plugins' folder, as in plugin_attr.resty-ts")
  .requiredOption("--out <dir>", "gets apisix/plugins/NAME.lua; for APISIX's extra_lua_path")
  .option("--prefix <text>", "before each plugin's name in APISIX", "")
  .option("--check", "write nothing; exit with 1 when a file would change")
  .option("--json", "print a list of { plugin, name, file, changed }")
  .addHelpText(
    "after",
    `
Examples:
  resty-ts apisix generate --plugins plugins --out /opt/apisix-lua
  resty-ts apisix generate --plugins plugins --out lua --prefix ts- jwt-auth cors
  resty-ts apisix generate --plugins plugins --out lua --check     # in CI`,
  )
  .action(runGenerate);

try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    // Commander has printed it.
    finish(error.exitCode === 0 ? ExitCode.ok : ExitCode.usage);
  } else if (error instanceof UsageError) {
    process.stderr.write(`${error.message}\n`);
    finish(ExitCode.usage);
  } else {
    throw error;
  }
}
