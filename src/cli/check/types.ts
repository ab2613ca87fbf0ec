/**
 * Types of plugins, checked by the project's own TypeScript: in a process of its own, so that any
 * version of it will do.
 */
import { execFile } from "node:child_process";
import { realpathSync } from "node:fs";
import path from "node:path";
import { findAbove, packageCommand, shownPath } from "../project.js";

export interface TypeReport {
  /** Whether they were checked at all. */
  readonly checked: boolean;
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

/** What definePlugin's types want, where there is no tsconfig.json. */
const PLAIN = [
  ...["--strict", "--skipLibCheck", "--allowImportingTsExtensions"],
  ...["--target", "es2022", "--lib", "es2023", "--module", "nodenext"],
];
const MOST_OUTPUT = 64 * 1024 * 1024;
const AT = /^(.+)\((\d+),(\d+)\): error (TS\d+: .*)$/;
const NOWHERE = /^error (TS\d+: .*)$/;

interface Ran {
  readonly ok: boolean;
  readonly lines: readonly string[];
}

function runTsc(script: string, args: readonly string[]): Promise<Ran> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [script, "--noEmit", "--pretty", "false", "--listFiles", ...args],
      { encoding: "utf8", maxBuffer: MOST_OUTPUT },
      (error, stdout, stderr) => {
        const lines = `${stdout}\n${stderr}`.split(/\r?\n/).filter((line) => line !== "");
        resolve({ ok: error === null, lines });
      },
    );
  });
}

/** Each error on a line: what TypeScript has below it, indented, is a part of it. */
function problemsIn(lines: readonly string[]): string[] {
  const problems: string[] = [];
  let isOpen = false;
  for (const line of lines) {
    const [, file, row, column, text] = AT.exec(line) ?? [];
    const whole = NOWHERE.exec(line)?.[1];
    if (file !== undefined) problems.push(`${shownPath(file)}:${row}:${column}: ${text}`);
    else if (whole !== undefined) problems.push(`tsc: ${whole}`);
    else if (isOpen && line.startsWith(" ")) problems.push(`${problems.pop()!}; ${line.trim()}`);
    isOpen = line.startsWith(" ") ? isOpen : file !== undefined || whole !== undefined;
  }
  return problems;
}

/**
 * @param folder the plugins'.
 * @param files the plugins' own, absolute.
 */
export async function checkTypes(folder: string, files: readonly string[]): Promise<TypeReport> {
  const sources = files.filter((file) => /\.m?ts$/.test(file)).map((file) => realpathSync(file));
  if (sources.length === 0) return { checked: true, problems: [], warnings: [] };
  const tsc = packageCommand(folder, "typescript", "tsc");
  if (tsc === undefined) {
    const warning =
      "types were not checked: the project has no TypeScript; npm install --save-dev typescript";
    return { checked: false, problems: [], warnings: [warning] };
  }
  const config = findAbove(folder, "tsconfig.json");
  const args = config === undefined ? [...PLAIN, ...sources] : ["--project", config];
  const { ok, lines } = await runTsc(tsc, args);
  const problems = problemsIn(lines);
  if (!ok && problems.length === 0) {
    problems.push(`tsc ended with an error: ${lines.slice(-3).join("; ")}`);
  }
  const known = new Set(lines.filter((line) => path.isAbsolute(line)).map(realpathOr));
  const left = ok ? sources.filter((file) => !known.has(file)) : [];
  const warnings = left.map(
    (file) =>
      `${shownPath(file)}: its types were not checked: add it to "include" of ${shownPath(config ?? "tsconfig.json")}`,
  );
  return { checked: true, problems, warnings };
}

function realpathOr(file: string): string {
  try {
    return realpathSync(file);
  } catch {
    return file;
  }
}
