// Processes that compute beside what is measured, as the neighbours of a gateway under load do.
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";

import { BENCH_DIR } from "./support.ts";

export interface Busy {
  /** @throws {Error} One has ended: the figures are not what they are said to be. */
  check(): void;
  stop(): Promise<void>;
}

function hasEnded({ exitCode, signalCode }: ChildProcess): boolean {
  return exitCode !== null || signalCode !== null;
}

/** Starts so many processes. */
export function startBusy(count: number): Busy {
  const children = Array.from({ length: count }, () =>
    spawn(process.execPath, [join(BENCH_DIR, "busy-process.mjs")], {
      stdio: ["pipe", "ignore", "inherit"],
      env: { ...process.env, NODE_OPTIONS: "" },
    }),
  );
  return {
    check() {
      if (children.some(hasEnded)) throw new Error("a busy process ended during the run");
    },
    async stop() {
      const running = children.filter((child) => !hasEnded(child));
      const exits = running.map((child) => once(child, "exit"));
      for (const child of running) child.stdin.end();
      await Promise.all(exits);
    },
  };
}
