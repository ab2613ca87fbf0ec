/** `resty-ts apisix generate` as the command line has it. */
import type { Command } from "commander";
import type { Report } from "../apisix/generate.js";
import { ExitCode, finish } from "../exit.js";

interface GenerateFlags {
  readonly plugins: string;
  readonly out: string;
  readonly prefix?: string;
  readonly check?: true;
  readonly json?: true;
}

/** What the command prints: for people, or for programs. */
function shown({ files }: Report, { check, json }: GenerateFlags): string {
  if (json) return `${JSON.stringify(files, undefined, 2)}\n`;
  const verb = check ? "differs  " : "wrote    ";
  return files.map(({ file, changed }) => `${changed ? verb : "unchanged"} ${file}\n`).join("");
}

async function runGenerate(names: string[], flags: GenerateFlags): Promise<void> {
  const { PluginFolder } = await import("../plugin-files.js");
  const { generate } = await import("../apisix/generate.js");
  const { out, prefix = "", check = false } = flags;
  const report = await generate(new PluginFolder(flags.plugins), names, { out, prefix, check });
  for (const warning of report.warnings) process.stderr.write(`warning: ${warning}\n`);
  for (const problem of report.problems) process.stderr.write(`error: ${problem}\n`);
  const differs = check && report.files.some(({ changed }) => changed);
  finish(
    report.problems.length > 0 || differs ? ExitCode.wrong : ExitCode.ok,
    shown(report, flags),
  );
}

export function registerApisix(program: Command): void {
  program
    .command("apisix")
    .description("what Apache APISIX needs of plugins")
    .command("generate")
    .description("write the Lua file of each plugin, by which APISIX has it as a plugin of its own")
    .argument("[names...]", "of plugins; else all that are in the folder")
    .requiredOption("--plugins <dir>", "the plugins' folder, as in plugin_attr.resty-ts")
    .requiredOption("--out <dir>", "gets apisix/plugins/NAME.lua; for APISIX's extra_lua_path")
    .option("--prefix <text>", "before each plugin's name in APISIX")
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
}
