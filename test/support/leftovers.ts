/** What must not remain when an nginx has ended, and what must not stand in its error log. */
import { lstatSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { sleep } from "./deadline.js";
import { sessionMembers, titleOf } from "./proc.js";

/** What ends by itself when nginx does (a compiler's process, say) has this long to do so. */
const GRACE_MS = 1500;

function socketsBelow(folder: string): string[] {
  const found: string[] = [];
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const stat = lstatSync(path);
    if (stat.isSocket()) found.push(path);
    else if (stat.isDirectory()) found.push(...socketsBelow(path));
  }
  return found;
}

/** Problems in words; empty when nothing was left. */
export async function findLeftovers(masterPid: number, prefix: string): Promise<string[]> {
  const list = (): string[] => [
    ...sessionMembers(masterPid).map((pid) => `process left: ${String(pid)} ${titleOf(pid)}`),
    ...socketsBelow(prefix).map((path) => `socket left: ${path}`),
    ...readdirSync(join(prefix, "tmp")).map((name) => `temporary file left: ${name}`),
  ];
  const end = Date.now() + GRACE_MS;
  let problems = list();
  while (problems.length > 0 && Date.now() < end) {
    await sleep(20);
    // What is still there must have been there at the first look too.
    const now = new Set(list());
    problems = problems.filter((problem) => now.has(problem));
  }
  return problems;
}

const SEVERE = /\[(?:emerg|alert|crit|error)\]/;
const BAD_EXIT =
  /(?:worker|cache manager|cache loader) process \d+ exited (?:on signal|with code (?!0\b))/;

/** Lines of the log that no pattern of the test allows. */
export function unexpectedLines(log: string, allowed: RegExp[]): string[] {
  return log
    .split("\n")
    .filter((line) => SEVERE.test(line) || BAD_EXIT.test(line))
    .filter((line) => !allowed.some((pattern) => pattern.test(line)))
    .map((line) => `unexpected in the error log: ${line}`);
}
