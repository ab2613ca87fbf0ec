/** Bundles in tests: unpacked, and their sample configuration run in an nginx. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { which } from "../../scripts/lib/run.mjs";
import { until, within } from "./deadline.js";
import { findPort } from "./nginx.js";

/** What a service manager leaves of an environment. */
const BARE = { PATH: `${path.dirname(process.execPath)}:/usr/sbin:/usr/bin:/sbin:/bin` };

/** Unpacks an archive in a new folder; the one folder in it. */
export function unpackBundle(archive: string, target: string): string {
  mkdirSync(target);
  execFileSync("tar", ["-xzf", archive, "-C", target]);
  const [only, ...more] = readdirSync(target);
  assert.deepEqual(more, []);
  assert.ok(only !== undefined);
  return path.join(target, only);
}

export interface SampleOptions {
  /** nginx, and what runs it. */
  readonly command?: readonly string[];
  /** Lines for ts.start of the sample configuration. */
  readonly options?: string;
  readonly patienceMs?: number;
}

/**
 * Runs the sample configuration, but for its port, while `work` asks. `first` is asked until it
 * answers. Returns what nginx has logged.
 */
export async function withSample(
  folder: string,
  first: string,
  work: (ask: (path: string) => Promise<Response>) => Promise<void>,
  { command = [which("nginx") ?? "nginx"], options = "", patienceMs = 15_000 }: SampleOptions = {},
): Promise<string> {
  const port = await findPort();
  const conf = path.join(folder, "nginx.conf");
  const text = readFileSync(conf, "utf8")
    .replace("127.0.0.1:8080", `127.0.0.1:${port}`)
    .replace(".start {\n", `.start {\n${options}`);
  writeFileSync(conf, text);
  const [program = "", ...before] = command;
  const args = [...before, "-e", "stderr", "-p", folder, "-c", "nginx.conf"];
  const nginx = spawn(program, args, { cwd: "/", env: BARE });
  let log = "";
  nginx.stderr.setEncoding("utf8").on("data", (chunk: string) => (log += chunk));
  const ended = new Promise((resolve) => nginx.once("exit", resolve));
  try {
    const ask = (where: string): Promise<Response> => fetch(`http://127.0.0.1:${port}${where}`);
    await until(
      "nginx answers",
      () => ask(first).catch(() => undefined),
      patienceMs,
      () => log,
    );
    await work(ask);
  } finally {
    nginx.kill("SIGTERM");
    await within("nginx ends", ended, patienceMs);
  }
  return log;
}
