/**
 * `resty-ts dev`: an nginx of the project's own, in the foreground.
 *
 * Thread: the process's main one. Invariant: whichever way it ends, its nginx has ended before, and
 * its folder is gone.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { colours } from "../colour.js";
import { Machine } from "../doctor/machine.js";
import { findNginx } from "../doctor/nginx.js";
import { UsageError } from "../exit.js";
import { devConfig, type DevEvent } from "./nginx-config.js";
import { ErrorLog, shownEvent } from "./output.js";
import { readProjectFile } from "./project-file.js";

export interface DevOptions {
  readonly plugins: string;
  /** resty-ts.json. */
  readonly config: string;
  readonly port: number;
  /** The inspector's port. */
  readonly inspect: number | undefined;
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
/** For nginx to end by itself. */
const MOST_END_MS = 5000;

function linesOf(stream: Readable, take: (line: string) => void): Promise<void> {
  const lines = createInterface({ input: stream });
  lines.on("line", take);
  return new Promise((resolve) => lines.once("close", resolve));
}

/** Asks nginx to end, and sees that it does. */
function end(child: ChildProcess): void {
  child.kill("SIGTERM");
  setTimeout(() => child.kill("SIGKILL"), MOST_END_MS).unref();
}

/** Resolves when it has ended. @returns whether somebody has ended it. @throws {UsageError} */
export async function dev({ plugins, config, port, inspect }: DevOptions): Promise<boolean> {
  const project = readProjectFile(config);
  const nginx = findNginx(new Machine("/"));
  if ("check" in nginx) throw new UsageError(`${nginx.text}\ncure: ${nginx.cure ?? ""}`);
  const root = fileURLToPath(new URL("../../../", import.meta.url));
  const prefix = mkdtempSync(path.join(tmpdir(), "resty-ts-dev-"));
  try {
    const { modules } = nginx;
    const places = { prefix, port, plugins: path.resolve(plugins), root, modules, inspect };
    const file = path.join(prefix, "nginx.conf");
    writeFileSync(file, devConfig(project, places));
    return await run(nginx.program, prefix, file, port);
  } finally {
    rmSync(prefix, { recursive: true, force: true });
  }
}

async function run(program: string, prefix: string, file: string, port: number): Promise<boolean> {
  const child = spawn(program, ["-p", prefix, "-c", file, "-e", "stderr"], {
    stdio: ["ignore", "pipe", "pipe"],
    // A terminal's Ctrl-C is for us: nginx is then told once.
    detached: true,
  });
  let isStopped = false;
  const stop = (): void => {
    isStopped = true;
    end(child);
  };
  for (const signal of SIGNALS) process.on(signal, stop);
  const print = (line: string | undefined): void => {
    if (line !== undefined) process.stdout.write(`${line}\n`);
  };
  const paint = colours(process.stdout);
  const log = new ErrorLog();
  const exited = new Promise<void>((resolve, reject) => {
    child.once("error", reject);
    child.once("exit", () => resolve());
  });
  const outputs = [
    linesOf(child.stdout, (line) => {
      const event = JSON.parse(line) as DevEvent;
      if (event.event === "ready") print(`listening on http://127.0.0.1:${port}; Ctrl-C ends it`);
      else print(shownEvent(event, paint));
    }),
    linesOf(child.stderr, (line) => print(log.shown(line, paint))),
  ];
  try {
    await exited;
    await Promise.all(outputs);
  } finally {
    for (const signal of SIGNALS) process.off(signal, stop);
  }
  return isStopped;
}
