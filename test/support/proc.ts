/**
 * What /proc says about a process: descriptors, threads, signal masks, limits, mappings, children.
 * Linux only, like the project. A process may end at any moment: the readers of single files
 * throw ENOENT or ESRCH then, the listings (children, session) just leave it out.
 */
import { readFileSync, readdirSync, readlinkSync } from "node:fs";

const PAGE_BYTES = 4096;

export interface Thread {
  tid: number;
  name: string;
  /** Signals blocked in this thread, bit n-1 for signal n. */
  blocked: bigint;
}

export interface ProcessView {
  pid: number;
  ppid: number;
  /** One letter: R, S, D, Z ... */
  state: string;
  title: string;
  uid: number;
  gid: number;
  cwd: string;
  umask: string;
  rssBytes: number;
  /** Descriptor number to what it is open on. */
  descriptors: Map<number, string>;
  threads: Thread[];
  /** Signals with a handler, ignored, and blocked in the main thread. */
  caught: bigint;
  ignored: bigint;
  blocked: bigint;
  openFiles: { soft: string; hard: string };
  /** Files mapped, each once, in order of address. */
  mappings: string[];
  /** Children that have ended and that nobody has waited for. */
  zombies: number[];
}

interface Stat {
  pid: number;
  state: string;
  ppid: number;
  session: number;
  rssBytes: number;
}

function readStat(pid: number): Stat {
  const text = readFileSync(`/proc/${String(pid)}/stat`, "latin1");
  // The name stands in brackets and may hold blanks and brackets itself.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return {
    pid,
    state: fields[0] ?? "?",
    ppid: Number(fields[1]),
    session: Number(fields[3]),
    rssBytes: Number(fields[21]) * PAGE_BYTES,
  };
}

function allStats(): Stat[] {
  const stats: Stat[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      stats.push(readStat(Number(name)));
    } catch {
      // ended since readdir
    }
  }
  return stats;
}

/** Children of a process, also those that are zombies, by pid. */
export function childrenOf(pid: number): number[] {
  return allStats()
    .filter((stat) => stat.ppid === pid)
    .map((stat) => stat.pid)
    .sort((a, b) => a - b);
}

/** Its children, theirs, and so on. */
export function descendantsOf(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)]);
}

/** Processes of a session that still run (not zombies), whoever is their parent by now. */
export function sessionMembers(session: number): number[] {
  return allStats()
    .filter((stat) => stat.session === session && stat.state !== "Z")
    .map((stat) => stat.pid);
}

export function zombiesOf(pid: number): number[] {
  return allStats()
    .filter((stat) => stat.ppid === pid && stat.state === "Z")
    .map((stat) => stat.pid);
}

export function isAlive(pid: number): boolean {
  try {
    return readStat(pid).state !== "Z";
  } catch {
    return false;
  }
}

/** The process's title: its command line, as setproctitle may have rewritten it. */
export function titleOf(pid: number): string {
  try {
    return readFileSync(`/proc/${String(pid)}/cmdline`, "latin1")
      .replaceAll("\0", " ")
      .trim();
  } catch {
    return "";
  }
}

export function rssOf(pid: number): number {
  return readStat(pid).rssBytes;
}

export function descriptorsOf(pid: number): Map<number, string> {
  const folder = `/proc/${String(pid)}/fd`;
  const links = new Map<number, string>();
  for (const name of readdirSync(folder)) {
    try {
      links.set(Number(name), readlinkSync(`${folder}/${name}`));
    } catch {
      // closed since readdir
    }
  }
  return links;
}

/** Paths of the unix sockets that a process holds, as they were bound, gone since or not. */
export function unixSocketPathsOf(pid: number): string[] {
  const links = new Set(descriptorsOf(pid).values());
  const paths: string[] = [];
  for (const line of readFileSync("/proc/net/unix", "latin1").split("\n")) {
    const fields = line.trim().split(/\s+/);
    const [inode, path] = fields.slice(6);
    if (path !== undefined && links.has(`socket:[${inode ?? ""}]`)) paths.push(path);
  }
  return paths;
}

function statusField(text: string, name: string): string {
  const match = new RegExp(`^${name}:\\s*(.*)$`, "m").exec(text);
  return match?.[1]?.trim() ?? "";
}

function mask(text: string, name: string): bigint {
  return BigInt(`0x${statusField(text, name) || "0"}`);
}

export function threadsOf(pid: number): Thread[] {
  const folder = `/proc/${String(pid)}/task`;
  const threads: Thread[] = [];
  for (const name of readdirSync(folder)) {
    try {
      const status = readFileSync(`${folder}/${name}/status`, "latin1");
      threads.push({
        tid: Number(name),
        name: statusField(status, "Name"),
        blocked: mask(status, "SigBlk"),
      });
    } catch {
      // ended since readdir
    }
  }
  return threads.sort((a, b) => a.tid - b.tid);
}

export function mappingsOf(pid: number): string[] {
  const files = new Set<string>();
  for (const line of readFileSync(`/proc/${String(pid)}/maps`, "latin1").split("\n")) {
    const path = line.slice(73).trim();
    if (path.startsWith("/")) files.add(path);
  }
  return [...files];
}

/** Everything about one process. Throws when there is none. */
export function inspect(pid: number): ProcessView {
  const stat = readStat(pid);
  const status = readFileSync(`/proc/${String(pid)}/status`, "latin1");
  const limits = readFileSync(`/proc/${String(pid)}/limits`, "latin1");
  const nofile = /^Max open files\s+(\S+)\s+(\S+)/m.exec(limits);
  return {
    pid,
    ppid: stat.ppid,
    state: stat.state,
    title: titleOf(pid),
    uid: Number(statusField(status, "Uid").split(/\s+/)[0]),
    gid: Number(statusField(status, "Gid").split(/\s+/)[0]),
    cwd: readlinkSync(`/proc/${String(pid)}/cwd`),
    umask: statusField(status, "Umask"),
    rssBytes: stat.rssBytes,
    descriptors: descriptorsOf(pid),
    threads: threadsOf(pid),
    caught: mask(status, "SigCgt"),
    ignored: mask(status, "SigIgn"),
    blocked: mask(status, "SigBlk"),
    openFiles: { soft: nofile?.[1] ?? "?", hard: nofile?.[2] ?? "?" },
    mappings: mappingsOf(pid),
    zombies: zombiesOf(pid),
  };
}

/** The numbers of the signals in a mask, for messages and comparisons that one can read. */
export function signalsIn(bits: bigint): number[] {
  const numbers: number[] = [];
  for (let n = 1; n <= 64; n++) {
    if ((bits >> BigInt(n - 1)) & 1n) numbers.push(n);
  }
  return numbers;
}
