/** `resty-ts doctor` as the command line has it. */
import type { Command } from "commander";
import type { DoctorOptions } from "../doctor/doctor.js";
import type { Finding, Level } from "../doctor/finding.js";
import { ExitCode, finish } from "../exit.js";
import { colours } from "../colour.js";

const WIDTH = 17;

function shown(findings: readonly Finding[]): string {
  const { green, yellow, red } = colours(process.stdout);
  const marks: Record<Level, string> = {
    ok: green("ok     "),
    warning: yellow("warning"),
    fault: red("fault  "),
  };
  return findings
    .map(({ check, level, text, cure }) => {
      const line = `${marks[level]}  ${check.padEnd(WIDTH)} ${text}\n`;
      return cure === undefined ? line : `${line}${" ".repeat(WIDTH + 10)}cure: ${cure}\n`;
    })
    .join("");
}

export function registerDoctor(program: Command): void {
  program
    .command("doctor")
    .description("look at this machine, and name what keeps plugins from running, with its cure")
    .option("--nginx <file>", "nginx; else on the PATH and in the usual folders")
    .option("--nginx-conf <file>", "its configuration; else the one that nginx was built with")
    .option("--library <file>", "libresty_ts.so; else where nginx finds it")
    .option("--plugins <dir>", "the plugins' folder; else as ts.start has it in the configuration")
    .option("--root <dir>", "look at the machine whose files are below this folder", "/")
    .option("--json", "print a list of { check, level, text, cure }")
    .addHelpText(
      "after",
      `
Looks at nginx and its Lua module, lua-resty-core, the C library, libnode and node, and at what
the workers' user may read and write. Ends with 1 when there is a fault. Changes nothing.

Examples:
  resty-ts doctor
  resty-ts doctor --nginx-conf /etc/nginx/nginx.conf --plugins /opt/gateway/plugins
  resty-ts doctor --json`,
    )
    .action(async ({ json, ...options }: DoctorOptions & { json?: true }) => {
      const { doctor } = await import("../doctor/doctor.js");
      const findings = doctor(options);
      const isWrong = findings.some(({ level }) => level === "fault");
      const text = json ? `${JSON.stringify(findings, undefined, 2)}\n` : shown(findings);
      finish(isWrong ? ExitCode.wrong : ExitCode.ok, text);
    });
}
