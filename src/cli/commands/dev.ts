/** `resty-ts dev` as the command line has it. */
import { type Command, InvalidArgumentError } from "commander";
import { ExitCode, finish } from "../exit.js";

interface DevFlags {
  readonly plugins?: string;
  readonly config: string;
  readonly port: number;
  readonly nginx?: string;
  readonly inspect?: number | true;
}

const INSPECTOR_PORT = 9229;
const MOST_PORT = 65_535;

function portOf(text: string): number {
  const port = Number(text);
  if (Number.isInteger(port) && port >= 1 && port <= MOST_PORT) return port;
  throw new InvalidArgumentError(`a port is a whole number from 1 to ${MOST_PORT}`);
}

export function registerDev(program: Command): void {
  program
    .command("dev")
    .description("run an nginx with the project's plugins, which are reloaded as they change")
    .option("--plugins <dir>", "the plugins' folder; else plugins or src/plugins")
    .option("--config <file>", "which plugins serve which paths", "resty-ts.json")
    .option("--port <number>", "on loopback", portOf, 8080)
    .option("--nginx <file>", "nginx; else on the PATH and in the usual folders")
    .option("--inspect [port]", "open Node's inspector on loopback, on 9229 or this port", portOf)
    .addHelpText(
      "after",
      `
Prints each request with its status and how long each phase took, and what nginx's error log
says: what a handler throws comes with its stack in TypeScript. A change of the configuration is
taken, too, unless something is wrong with it. Ctrl-C ends it.

Examples:
  resty-ts dev
  resty-ts dev --inspect                   # then chrome://inspect, or an editor
  resty-ts dev --port 9000 --plugins plugins --config conf/dev.json`,
    )
    .action(async ({ plugins, config, port, nginx, inspect }: DevFlags) => {
      const { pluginsFolder } = await import("../project.js");
      const { dev } = await import("../dev/dev.js");
      await dev({
        plugins: pluginsFolder(plugins),
        config,
        port,
        nginx,
        inspect: inspect === true ? INSPECTOR_PORT : inspect,
      });
      finish(ExitCode.ok);
    });
}
