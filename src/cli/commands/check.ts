/** `resty-ts check` as the command line has it. */
import type { Command } from "commander";
import type { CheckReport } from "../check/check.js";
import { ExitCode, finish } from "../exit.js";

interface CheckFlags {
  readonly plugins?: string;
  readonly conf?: readonly string[];
  readonly prefix?: string;
  readonly types: boolean;
  readonly json?: true;
}

const counted = (count: number, what: string): string =>
  `${count} ${what}${count === 1 ? "" : "s"}`;

function shown(report: CheckReport): string {
  const { plugins, configurations, problems } = report;
  const lines = plugins.map(({ name, file }) => `loads     ${name} (${file})`);
  const looked = `${counted(plugins.length, "plugin")}, ${counted(configurations, "configuration")}`;
  return [...lines, `${looked}: ${counted(problems.length, "problem")}`, ""].join("\n");
}

async function runCheck(names: string[], flags: CheckFlags): Promise<void> {
  const { PluginFolder } = await import("../plugin-files.js");
  const { pluginsFolder } = await import("../project.js");
  const { check } = await import("../check/check.js");
  const report = await check(new PluginFolder(pluginsFolder(flags.plugins)), names, {
    conf: [],
    prefix: "",
    ...flags,
  });
  for (const warning of report.warnings) process.stderr.write(`warning: ${warning}\n`);
  for (const problem of report.problems) process.stderr.write(`error: ${problem}\n`);
  finish(
    report.problems.length > 0 ? ExitCode.wrong : ExitCode.ok,
    flags.json ? `${JSON.stringify(report, undefined, 2)}\n` : shown(report),
  );
}

export function registerCheck(program: Command): void {
  program
    .command("check")
    .description("type-check and load plugins, and validate configurations, without nginx")
    .argument("[names...]", "of plugins; else all that are in the folder")
    .option("--plugins <dir>", "the plugins' folder; else plugins or src/plugins")
    .option(
      "--conf <file>",
      "JSON or YAML with configurations; may be given several times",
      (file: string, files: readonly string[] = []) => [...files, file],
    )
    .option("--prefix <text>", "before each plugin's name in these, as of apisix generate")
    .option("--no-types", "leave types to tsc")
    .option("--json", "print { plugins, configurations, typesChecked, problems, warnings }")
    .addHelpText(
      "after",
      `
A file of configurations is a map from plugins' names, a list of { name, conf }, or has such
below "plugins", at any depth, as APISIX's apisix.yaml. APISIX's own plugins are passed over.

Examples:
  resty-ts check
  resty-ts check --plugins plugins --conf conf/plugins.yaml jwt-auth
  resty-ts check --plugins plugins --conf apisix.yaml --prefix ts- --json`,
    )
    .action(runCheck);
}
