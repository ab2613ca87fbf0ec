/** What the integration tests know of the bridge: answers, statistics, states. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { until } from "./deadline.js";
import type { Nginx } from "./nginx.js";
import { INSTALLATION } from "./project.js";

/** What support.lua's reply makes of a call's results. */
export interface Answer<T = unknown> {
  value?: T;
  err?: string;
  code?: string;
}

export interface Stats {
  state: "starting" | "ready" | "restarting" | "backing_off" | "failed" | "stopped" | "none";
  calls: number;
  completed: number;
  failed: number;
  timeouts: number;
  pending: number;
  submission_bytes: number;
  lives: number;
  exited: number;
  stalled: number;
  out_of_memory: number;
  carried_over: number;
  repeated: number;
  dropped_log_entries: number;
  thread_id: number;
  process_id?: number;
  instances?: Stats[];
  node_version?: string;
  abi?: number;
  runtime?: "embedded" | "process";
}

if (!existsSync(join(INSTALLATION.libraries, "libresty_ts.so"))) {
  throw new Error(`${INSTALLATION.libraries}/libresty_ts.so is missing: run \`npm run build\``);
}

export function statsOf(nginx: Nginx): Promise<Stats> {
  return nginx.json<Stats>("/_stats");
}

export async function untilState(
  nginx: Nginx,
  state: Stats["state"],
  deadlineMs = 15_000,
): Promise<void> {
  let last = "";
  await until(
    `the runtime is ${state}`,
    async () => {
      last = (await statsOf(nginx)).state;
      return last === state;
    },
    deadlineMs,
    () => `it is ${last}`,
  );
}

/** Resolves when no call is in flight any more. */
export async function untilIdle(nginx: Nginx, deadlineMs = 10_000): Promise<void> {
  let last = -1;
  await until(
    "no call is pending",
    async () => {
      last = (await statsOf(nginx)).pending;
      return last === 0;
    },
    deadlineMs,
    () => `${String(last)} are pending`,
  );
}

export const asRoot = process.getuid?.() === 0;

/** The `skip` option of a test that needs root. */
export const needsRoot = asRoot ? false : "needs root";
