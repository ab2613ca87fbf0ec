// Which CPUs the measured threads may run on. By default the kernel decides (`free`).
// `apart`: wrk and nginx's own thread share the first CPU, everything else keeps to the others, the
// benchmark's own process with it.
// Then what is left is what one thread makes another one wait for, and not how the kernel shares out
// two cores among three busy threads.
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";

export type Placement = "free" | "apart";

interface Processes {
  readonly workerPids: readonly number[];
  readonly serverPids: readonly number[];
}

function readAllowedCpus(): number[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const list = /^Cpus_allowed_list:\s+(\S+)$/m.exec(status)?.[1] ?? "0";
  return list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, index) => first + index);
  });
}

/** The CPUs that the benchmark was given: `0-3,8` gives 0, 1, 2, 3, 8. Read once: `place` moves this process, too. */
export const allowedCpus: readonly number[] = readAllowedCpus();

export function canPlaceApart(): boolean {
  return allowedCpus.length > 1;
}

/** The command to put before wrk's. */
export function placeWrk(placement: Placement): string[] {
  return placement === "free" ? [] : ["taskset", "-c", String(allowedCpus[0])];
}

function setCpus(tid: number, cpus: readonly number[]): void {
  execFileSync("taskset", ["-pc", cpus.join(","), String(tid)], { stdio: "ignore" });
}

function threadsOf(pid: number): number[] {
  return readdirSync(`/proc/${String(pid)}/task`).map(Number);
}

/** Moves the threads that exist now; those that they start later inherit their place. */
export function place({ workerPids, serverPids }: Processes, placement: Placement): void {
  const first = placement === "free" ? allowedCpus : allowedCpus.slice(0, 1);
  const others = placement === "free" ? allowedCpus : allowedCpus.slice(1);
  for (const tid of [...workerPids, ...serverPids, process.pid].flatMap(threadsOf)) {
    setCpus(tid, workerPids.includes(tid) ? first : others);
  }
}
