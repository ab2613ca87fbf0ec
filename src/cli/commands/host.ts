/** `resty-ts host` as the command line has it. */
import type { Command } from "commander";

export function registerHost(program: Command): void {
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
      const { runHost } = await import("../host.js");
      runHost(listen, addon);
    });
}
