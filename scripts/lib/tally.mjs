// Counting: every suite adds to one tally, and every line that a test program prints passes through here.
import { spawn } from "node:child_process";
import { root } from "./run.mjs";

export class Tally {
  passed = 0;
  failed = 0;
  /** @type {string[]} */
  failures = [];
  /** @type {string[]} */
  skips = [];

  pass(count = 1) {
    this.passed += count;
  }

  /** @param {string} what */
  fail(what, count = 1) {
    this.failed += count;
    this.failures.push(what);
  }

  /** @param {string} what */
  skip(what) {
    this.skips.push(what);
  }
}

/**
 * Runs a program and shows its output as it comes.
 * @param {string[]} command
 * @param {(line: string) => void} onLine each line of stdout
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<{ code: number | null, signal: string | null }>}
 */
export function stream(command, onLine, env = process.env) {
  return new Promise((resolve) => {
    const [program = "", ...args] = command;
    const child = spawn(program, args, { cwd: root, env, stdio: ["ignore", "pipe", "inherit"] });
    let partial = "";
    child.stdout.setEncoding("utf8").on("data", (/** @type {string} */ chunk) => {
      process.stdout.write(chunk);
      const lines = (partial + chunk).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) onLine(line);
    });
    child.on("error", (error) => {
      console.error(`${program}: ${error.message}`);
      resolve({ code: 127, signal: null });
    });
    child.on("close", (code, signal) => {
      if (partial !== "") onLine(partial);
      resolve({ code, signal });
    });
  });
}

/**
 * A program that prints TAP and exits 0 (passed), 1 (failed) or 77 (skipped, and says why).
 * With `plan` it must also end with `1..N`: a script that stops half way exits 0 too.
 * @param {Tally} tally @param {string} title @param {string[]} command
 * @param {{ env?: NodeJS.ProcessEnv, plan?: boolean }} [options]
 */
export async function runTap(tally, title, command, { env, plan = false } = {}) {
  let seen = 0;
  let failed = 0;
  let planned = -1;
  const { code, signal } = await stream(
    command,
    (line) => {
      const result = /^(not )?ok\b(?: \d+)?(?: - )?(.*)$/.exec(line);
      planned = Number(/^1\.\.(\d+)/.exec(line)?.[1] ?? planned);
      if (result === null) return;
      seen++;
      const [, not, what = ""] = result;
      if (not !== undefined) {
        failed++;
        tally.fail(`${title}: ${what}`);
      } else if (/# SKIP/i.test(what)) {
        tally.skip(`${title}: ${what}`);
      } else {
        tally.pass();
      }
    },
    env,
  );
  if (code === 77 && failed === 0) return tally.skip(`${title}: exit status 77`);
  if (code !== 0 && failed === 0) tally.fail(`${title}: ${signal ?? `exit status ${code}`}`);
  else if (code === 0 && failed > 0) tally.fail(`${title}: exit status 0 in spite of a failure`);
  else if (code === 0 && seen === 0) tally.fail(`${title}: no test ran`);
  else if (code === 0 && plan && planned !== seen) {
    tally.fail(`${title}: ${seen} tests ran, the plan says ${planned < 0 ? "nothing" : planned}`);
  }
}

/**
 * Test files for node:test, each TypeScript file through tsx.
 * @param {Tally} tally @param {string} where the folder that they are from @param {string[]} files
 * @param {{ concurrency?: number, name?: string, node?: string[], env?: NodeJS.ProcessEnv }} [options] node is the command
 *   that runs Node, when it is not ours
 */
export async function runNodeTests(tally, where, files, options = {}) {
  const { concurrency, name, node = [process.execPath], env } = options;
  const command = [...node, "--import", "tsx", "--test", "--test-reporter=spec"];
  if (concurrency !== undefined) command.push(`--test-concurrency=${concurrency}`);
  if (name !== undefined) command.push(`--test-name-pattern=${name}`);
  /** @type {Record<string, number>} */
  const totals = {};
  /** @type {string[]} */
  const names = [];
  /** @type {Set<string>} */
  const reasons = new Set();
  let repeating = false;
  /** @param {string} line */
  const onLine = (line) => {
    const total = /^ℹ (tests|pass|fail|cancelled|skipped|todo) (\d+)$/.exec(line);
    if (total?.[1] !== undefined) totals[total[1]] = Number(total[2]);
    // At the end the reporter names the failed ones again.
    if (line === "✖ failing tests:") repeating = true;
    else if (repeating && line.startsWith("✖ ")) names.push(line.slice(2));
    const reason = /^\s*﹣ .* # (.+)$/.exec(line)?.[1];
    if (reason !== undefined) reasons.add(reason);
  };
  const ended = await stream([...command, ...files], onLine, env);
  const { pass = 0, fail = 0, cancelled = 0, skipped = 0, tests = 0 } = totals;
  tally.pass(pass);
  if (fail + cancelled > 0) {
    tally.fail(`${where}: ${names.join(`\n  ${where}: `) || "see above"}`, fail + cancelled);
  } else if (ended.code !== 0)
    tally.fail(`${where}: ${ended.signal ?? `exit status ${ended.code}`}`);
  else if (tests === 0) tally.fail(`${where}: no test ran`);
  if (skipped > 0) tally.skip(`${where}: ${skipped} tests (${[...reasons].join("; ")})`);
}
