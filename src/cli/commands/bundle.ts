/** `resty-ts bundle` as the command line has it. */
import path from "node:path";
import type { Command } from "commander";
import { ExitCode, finish } from "../exit.js";

interface BundleFlags {
  readonly plugins?: string;
  readonly out: string;
  readonly platform?: string;
  readonly json?: true;
}

async function runBundle(version: string, flags: BundleFlags): Promise<void> {
  const { PluginFolder } = await import("../plugin-files.js");
  const { platform: here } = await import("../platform.js");
  const { bundle } = await import("../bundle/bundle.js");
  const { TEMPLATES } = await import("../bundle/texts.js");
  const folder = new PluginFolder(flags.plugins ?? path.join(TEMPLATES, "plugins"));
  const { out, platform = here } = flags;
  const { problems, warnings, ...made } = await bundle(folder, { out, platform, version });
  for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
  for (const problem of problems) process.stderr.write(`error: ${problem}\n`);
  if (problems.length > 0) finish(ExitCode.wrong);
  else {
    const text = flags.json
      ? JSON.stringify(made, undefined, 2)
      : `${made.sha256}  ${made.file} (${made.files.length} files)`;
    finish(ExitCode.ok, `${text}\n`);
  }
}

export function registerBundle(program: Command): void {
  program
    .command("bundle")
    .description("write one archive that runs where there are nginx and a libnode (or a node)")
    .requiredOption("--out <file>", "the .tar.gz")
    .option("--plugins <dir>", "a folder of plugins; else a sample goes in")
    .option("--platform <name>", "the machine's kind, as in prebuilds; else this machine's")
    .option("--json", "print { file, sha256, files }")
    .addHelpText(
      "after",
      `
It has the shared libraries, the Lua files, the host, the plugins as \`resty-ts build\` makes them,
checksums, a sample nginx.conf and a README.

Examples:
  resty-ts bundle --plugins plugins --out gateway.tar.gz
  resty-ts bundle --plugins plugins --out gateway.tar.gz --platform linux-arm64
  resty-ts bundle --out resty-ts.tar.gz        # to look at: with a sample plugin`,
    )
    .action((flags: BundleFlags) => runBundle(program.version() ?? "", flags));
}
