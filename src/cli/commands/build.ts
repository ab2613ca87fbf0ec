/** `resty-ts build` as the command line has it. */
import type { Command } from "commander";
import type { BuildReport } from "../build/build.js";
import { ExitCode, finish } from "../exit.js";

interface BuildFlags {
  readonly plugins?: string;
  readonly out: string;
  readonly json?: true;
}

function shown({ out, manifest }: BuildReport): string {
  const lines = manifest.plugins.map(({ file, phases, external }) => {
    const left = external.length === 0 ? "" : `; imports ${external.join(", ")} (native)`;
    return `built     ${file} (${phases.join(", ")}${left})`;
  });
  const natives = Object.entries(manifest.external).map(([name, its]) => `${name}@${its}`);
  if (natives.length > 0) {
    lines.push(
      `external  ${natives.join(", ")}: run \`npm install\` in ${out} on the machine that runs nginx`,
    );
  }
  return `${lines.join("\n")}\n`;
}

async function runBuild(version: string, names: string[], flags: BuildFlags): Promise<void> {
  const { PluginFolder } = await import("../plugin-files.js");
  const { pluginsFolder } = await import("../project.js");
  const { build } = await import("../build/build.js");
  const folder = new PluginFolder(pluginsFolder(flags.plugins));
  const report = await build(folder, names, flags.out, version);
  for (const problem of report.problems) process.stderr.write(`error: ${problem}\n`);
  if (report.problems.length > 0) finish(ExitCode.wrong);
  else {
    const { manifest } = report;
    const text = flags.json ? `${JSON.stringify(manifest, undefined, 2)}\n` : shown(report);
    finish(ExitCode.ok, text);
  }
}

export function registerBuild(program: Command): void {
  program
    .command("build")
    .description("bundle each plugin into one file that nginx loads with no npm and no compiler")
    .argument("[names...]", "of plugins; else all that are in the folder")
    .option("--plugins <dir>", "the plugins' folder; else plugins or src/plugins")
    .requiredOption("--out <dir>", "gets NAME.mjs, NAME.mjs.map and manifest.json")
    .option("--json", "print the manifest")
    .addHelpText(
      "after",
      `
Examples:
  resty-ts build --out dist/plugins
  resty-ts build --plugins plugins --out /opt/gateway/plugins jwt-auth cors
  resty-ts build --out dist/plugins --json`,
    )
    .action((names: string[], flags: BuildFlags) =>
      runBuild(program.version() ?? "", names, flags),
    );
}
