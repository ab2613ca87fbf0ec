/** `resty-ts init` as the command line has it. */
import type { Command } from "commander";
import { ExitCode, finish } from "../exit.js";

export function registerInit(program: Command): void {
  program
    .command("init")
    .description("make a project: a plugin, a unit test of it, and what its commands need")
    .argument("<dir>", "a new or an empty folder")
    .addHelpText(
      "after",
      `
Examples:
  resty-ts init gateway
  cd gateway && npm install && npm test && npm run dev`,
    )
    .action(async (dir: string) => {
      const { init } = await import("../init/init.js");
      const written = init(dir).map((name) => `wrote     ${name}\n`);
      const shown = /^[\w./+-]+$/.test(dir) ? dir : `'${dir.replaceAll("'", "'\\''")}'`;
      process.stderr.write(`next: cd ${shown} && npm install && npm test && npm run dev\n`);
      finish(ExitCode.ok, written.join(""));
    });
}
