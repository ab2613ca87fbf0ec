// CPU time and memory of processes by group of threads, read from /proc: exact, and free for them.
import { readFileSync, readdirSync } from "node:fs";

/** The thread that runs JavaScript in the worker names itself so. */
const NODE_THREAD = "resty-ts-node";

/** `main`: a process's first thread; `node`: the one that runs JavaScript beside it; `others`: V8's and libuv's helpers. */
export interface CpuTimes {
  readonly mainUs: number;
  readonly nodeUs: number;
  readonly othersUs: number;
}

interface Task {
  readonly tid: number;
  readonly name: string;
  readonly cpuUs: number;
}

function readTask(pid: number, tid: number): Task | undefined {
  const dir = `/proc/${String(pid)}/task/${String(tid)}`;
  try {
    const name = readFileSync(`${dir}/comm`, "utf8").trim();
    // First field: nanoseconds on a CPU.
    const cpuUs = Number(readFileSync(`${dir}/schedstat`, "utf8").split(" ")[0]) / 1000;
    return { tid, name, cpuUs };
  } catch (error) {
    // A thread may end between the listing and the reading.
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw error;
  }
}

function cpuTimesOf(pid: number): CpuTimes {
  const tasks = readdirSync(`/proc/${String(pid)}/task`)
    .map((tid) => readTask(pid, Number(tid)))
    .filter((task) => task !== undefined)
    .sort((a, b) => a.tid - b.tid);
  // V8's helpers inherit the name of the thread that starts them; it is older than they are.
  const nodeTid = tasks.find((task) => task.name === NODE_THREAD)?.tid;
  const sum = (group: (task: Task) => boolean): number => {
    return tasks.filter(group).reduce((total, task) => total + task.cpuUs, 0);
  };
  return {
    mainUs: sum((task) => task.tid === pid),
    nodeUs: sum((task) => task.tid === nodeTid),
    othersUs: sum((task) => task.tid !== pid && task.tid !== nodeTid),
  };
}

/** Sums over the processes. */
export function readCpuTimes(pids: readonly number[]): CpuTimes {
  const all = pids.map(cpuTimesOf);
  const sum = (of: (times: CpuTimes) => number): number => {
    return all.reduce((total, times) => total + of(times), 0);
  };
  return {
    mainUs: sum((times) => times.mainUs),
    nodeUs: sum((times) => times.nodeUs),
    othersUs: sum((times) => times.othersUs),
  };
}

/** What was used between two readings, for each of `requests`. */
export function cpuPerRequest(before: CpuTimes, after: CpuTimes, requests: number): CpuTimes {
  return {
    mainUs: (after.mainUs - before.mainUs) / requests,
    nodeUs: (after.nodeUs - before.nodeUs) / requests,
    othersUs: (after.othersUs - before.othersUs) / requests,
  };
}

function rssMibOf(pid: number): number {
  const status = readFileSync(`/proc/${String(pid)}/status`, "utf8");
  const kib = Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]);
  return kib / 1024;
}

/** Resident memory, in MiB: the mean of the processes. */
export function readRssMib(pids: readonly number[]): number {
  return pids.reduce((total, pid) => total + rssMibOf(pid), 0) / pids.length;
}
