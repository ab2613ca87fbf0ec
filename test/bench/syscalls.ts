// Syscalls a request of nginx's own thread, counted in two ways.
// `strace -c` is at hand everywhere, but it slows the worker by a factor of some twenty: the Node side,
// which is not slowed, is asleep at each request, and each rings its doorbell. So `strace` counts a
// second time in a worker whose Node side spins for longer (`strace, spin 1 ms`).
// `perf stat` counts the kernel's tracepoints at full speed; it is used where it is installed.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

import { checkAnswer, pathOf, type Target } from "./cases.ts";
import type { Site } from "./nginx.ts";
import { hasCommand, whenExited } from "./support.ts";
import { runWrk } from "./wrk.ts";

const CONNECTIONS = 64;
const SECONDS = 3;
const ATTACH_TIMEOUT_MS = 5_000;
const PERF_TOTAL = "raw_syscalls:sys_enter";
const PERF_KINDS = [
  ...["epoll_wait", "epoll_ctl", "recvfrom", "sendto", "read", "write", "readv", "writev"],
  ...["futex", "ppoll", "poll", "getsockopt", "setsockopt", "accept4", "close"],
];

export type Method = "strace" | "perf";

/** In place of the default of 80: strace stretches a request. */
export const STRETCHED_SPIN_US = 1000;

export interface SyscallRow {
  readonly target: Target;
  readonly method: string;
  readonly requests: number;
  readonly rps: number;
  readonly total: number;
  /** Count by name, highest first. */
  readonly kinds: readonly (readonly [name: string, count: number])[];
}

/** Lines of `strace -c`: % time, seconds, usecs/call, calls, [errors], syscall. */
function parseStrace(text: string): [string, number][] {
  const line = /^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$/gm;
  return [...text.matchAll(line)]
    .map((match): [string, number] => [match[2] ?? "", Number(match[1])])
    .filter(([name]) => name !== "total");
}

/** Lines of `perf stat -x,`: count, unit, event, … */
function parsePerf(text: string): [string, number][] {
  const fields = text.split("\n").map((line) => line.split(","));
  return fields
    .filter((field) => /^\d+$/.test(field[0] ?? ""))
    .map((field): [string, number] => [
      (field[2] ?? "").replace("syscalls:sys_enter_", ""),
      Number(field[0]),
    ]);
}

function rowOf(
  target: Target,
  method: string,
  figures: { readonly requests: number; readonly rps: number },
  counts: readonly [string, number][],
): SyscallRow {
  const kinds = counts.filter(([name, count]) => name !== PERF_TOTAL && count > 0);
  const total =
    counts.find(([name]) => name === PERF_TOTAL)?.[1] ??
    kinds.reduce((sum, [, count]) => sum + count, 0);
  if (total === 0) throw new Error(`${method} counted no syscall`);
  const { requests, rps } = figures;
  return { target, method, requests, rps, total, kinds: kinds.sort((a, b) => b[1] - a[1]) };
}

async function countByStrace(
  site: Site,
  target: Target,
  dir: string,
  method = "strace",
): Promise<SyscallRow> {
  const file = join(dir, `strace-${target}`);
  // No -f: the worker's first thread is nginx, and only that is counted.
  const strace = spawn("strace", ["-c", "-o", file, "-p", site.workerPids.join(",")], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  const lines = createInterface({ input: strace.stderr });
  const said: string[] = [];
  lines.on("line", (line) => said.push(line));
  await once(lines, "line", { signal: AbortSignal.timeout(ATTACH_TIMEOUT_MS) });
  if (!said.some((line) => line.includes("attached"))) {
    strace.kill("SIGINT");
    throw new Error(`strace cannot attach to the worker: ${said.join("; ")}`);
  }
  const url = site.url + pathOf("echo", target);
  const figures = await runWrk({ url, connections: CONNECTIONS, seconds: SECONDS }).finally(() => {
    strace.kill("SIGINT");
  });
  await whenExited(strace, ATTACH_TIMEOUT_MS);
  return rowOf(target, method, figures, parseStrace(readFileSync(file, "utf8")));
}

async function countByPerf(site: Site, target: Target, dir: string): Promise<SyscallRow> {
  const file = join(dir, `perf-${target}`);
  const events = [PERF_TOTAL, ...PERF_KINDS.map((name) => `syscalls:sys_enter_${name}`)];
  const parent = [
    ...["perf", "stat", "-x", ",", "-o", file],
    ...["-e", events.join(","), "-t", site.workerPids.join(","), "--"],
  ];
  const url = site.url + pathOf("echo", target);
  const figures = await runWrk({ url, connections: CONNECTIONS, seconds: SECONDS, parent });
  return rowOf(target, "perf", figures, parsePerf(readFileSync(file, "utf8")));
}

/** What can count here, and in words why another cannot. */
export function syscallMethods(): { methods: Method[]; missing: string[] } {
  const methods: Method[] = [];
  const missing: string[] = [];
  if (process.getuid?.() !== 0) {
    return { methods, missing: ["not root: syscalls are not counted"] };
  }
  if (hasCommand("strace", ["-V"])) methods.push("strace");
  else missing.push("strace is not installed");
  const perfTest = ["stat", "-e", PERF_TOTAL, "--", "true"];
  if (hasCommand("perf", perfTest)) methods.push("perf");
  else missing.push("perf is not installed, or has no tracepoints");
  return { methods, missing };
}

async function warmUp(site: Site, target: Target): Promise<void> {
  await checkAnswer(site, "echo", target);
  await runWrk({ url: site.url + pathOf("echo", target), connections: CONNECTIONS, seconds: 1 });
}

/** The bridge alone, by strace, in a site that was started with STRETCHED_SPIN_US. */
export async function countStretched(site: Site, dir: string): Promise<SyscallRow> {
  await warmUp(site, "ts");
  return countByStrace(site, "ts", dir, "strace, spin 1 ms");
}

/** Echo at 64 connections for each target; `dir` is for the tools' output files. */
export async function countSyscalls(
  site: Site,
  targets: readonly Target[],
  methods: readonly Method[],
  dir: string,
): Promise<SyscallRow[]> {
  const rows: SyscallRow[] = [];
  for (const target of targets) {
    await warmUp(site, target);
    for (const method of methods) {
      const count = method === "strace" ? countByStrace : countByPerf;
      rows.push(await count(site, target, dir));
    }
  }
  return rows;
}
