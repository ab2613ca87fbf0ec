// Starts and stops the Node HTTP server (server.ts) that the `proxy` target is served by.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";

import { build } from "esbuild";

import { JWT_SECRET } from "./jwt.ts";
import { BENCH_DIR, whenExited } from "./support.ts";

const START_TIMEOUT_MS = 10_000;
const STOP_TIMEOUT_MS = 5_000;

export interface NodeServer {
  readonly pid: number;
  readonly socketPath: string;
  stop(): Promise<void>;
}

async function stopServer(child: ChildProcess): Promise<void> {
  child.kill("SIGTERM");
  if (await whenExited(child, STOP_TIMEOUT_MS)) return;
  child.kill("SIGKILL");
  await whenExited(child, STOP_TIMEOUT_MS);
}

/** Starts the server in `dir` (created, and removed by `stop`) and waits until it listens. */
export async function startNodeServer(dir: string): Promise<NodeServer> {
  mkdirSync(dir, { recursive: true });
  const script = join(dir, "server.mjs");
  await build({
    entryPoints: [join(BENCH_DIR, "server.ts")],
    bundle: true,
    platform: "node",
    format: "esm",
    target: "node18",
    outfile: script,
    logLevel: "warning",
  });

  const socketPath = join(dir, "node.sock");
  const child = spawn(process.execPath, [script, socketPath, JWT_SECRET], {
    stdio: ["pipe", "pipe", "inherit"],
    // The bench itself may run under loader options that the measured process must not have.
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  const ended = once(child, "exit").then(() => {
    throw new Error("the Node HTTP server ended at start");
  });
  // Ending later is what `stop` is for: only a start looks at it.
  ended.catch(() => undefined);
  const signal = AbortSignal.timeout(START_TIMEOUT_MS);
  await Promise.race([once(child.stdout, "data", { signal }), ended]);
  if (child.pid === undefined) throw new Error("the Node HTTP server has no pid");
  return {
    pid: child.pid,
    socketPath,
    stop: async () => {
      await stopServer(child);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
