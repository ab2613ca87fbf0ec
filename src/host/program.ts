/**
 * The host as a program, in two ways:
 *   node host.cjs --addon resty_ts.node --link 3        started by native/runtime/process.c, with a
 *                                                       socket to its worker as descriptor 3
 *   node host.cjs --addon resty_ts.node --listen PATH   started by hand, or with --shared-heap-mb for
 *                                                       all workers of an nginx: they connect to it, and
 *                                                       each has an environment of its own, a thread
 *
 * Thread: the process's main one, or one of those threads. Invariant: an environment without a worker
 * ends; one that does not come up tells the worker why.
 */
import { rmdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { type ResourceLimits, Worker } from "node:worker_threads";
import { decode } from "./codec.js";
import { stackOf } from "./describe.js";
import { main, type Binding, type HostSettings } from "./main.js";
import { boundExternalMemory } from "./memory.js";

/** native/addon/link.h */
interface Link {
  readonly channel: unknown;
  readonly settings: Uint8Array;
  tell(kind: number, value: number, text?: string): void;
  listen(onEnd: () => void): void;
}

/** native/addon/door.h */
interface Door {
  listen(onWorker: (fd: number) => void): void;
  watch(fd: number, onGone: () => void): void;
}

interface ProgramBinding extends Binding {
  readonly Link: new (fd: number) => Link;
  readonly Door: new (path: string) => Door;
}

/** As in native/channel/link.h. */
const TELL_NODE = 4;
const TELL_READY = 5;
const TELL_FAILED = 6;

const LEAST_NODE = 18;
/** As in native/include/rts_errors.h. */
const NO_NODE = 30;
const UNAVAILABLE = 3;
const OUT_OF_MEMORY = 29;

function serve(binding: ProgramBinding, fd: number): void {
  const link = new binding.Link(fd);
  const fail = (code: number, text: string): never => {
    link.tell(TELL_FAILED, code, text);
    process.exit(1);
  };
  if (Number.parseInt(process.versions.node) < LEAST_NODE) {
    fail(NO_NODE, `${process.execPath} is ${process.version}, it takes Node ${LEAST_NODE}`);
  }
  link.tell(TELL_NODE, Number(process.versions.modules), process.version);
  try {
    main(binding, link.channel, link.settings, false);
  } catch (error) {
    fail(UNAVAILABLE, stackOf(error));
  }
  const { maxExternalMb } = decode(link.settings, 0, link.settings.length) as HostSettings;
  if (maxExternalMb > 0) {
    boundExternalMemory(maxExternalMb, () => {
      fail(
        OUT_OF_MEMORY,
        `memory outside of the heap (Buffers) has reached max_external_mb, ${maxExternalMb}`,
      );
    });
  }
  link.listen(() => process.exit(0));
  link.tell(TELL_READY, 0);
}

/** How long an environment whose worker is gone may take to end by itself. */
const END_MS = 250;

/** How long it may take in all, and how many may take longer: they are blocked in native code. */
const LEFT_MS = 1250;
const MOST_LEFT = 2;

/** How long a host of all workers waits for the first, and for another after the last. */
const FIRST_MS = 10_000;
const NEXT_MS = 1000;

/**
 * An environment whose heap is full gets 16 MiB more from Node to end in: all that is young may be
 * promoted meanwhile, and what does not fit ends the process. A third of this can be; of Node 24's own,
 * 64 MiB (its process ended in 9 of 12 runs).
 */
const MOST_YOUNG_MB = 24;

interface Shared {
  /** Of each environment; 0: as Node has it. */
  readonly maxHeapMb: number;
}

/** Takes away what is at a host's place; another may be about to use the folder. */
function leave(path: string): void {
  rmSync(path, { force: true });
  if (basename(dirname(path)).startsWith("resty-ts-shared-")) {
    rmSync(join(dirname(path), "lock"), { force: true });
    try {
      rmdirSync(dirname(path));
    } catch {
      // somebody has made a socket there
    }
  }
}

/** Until a signal ends the process, or, `shared`, the last worker has gone. */
function receive(binding: ProgramBinding, addon: string, path: string, shared?: Shared): void {
  const door = new binding.Door(path);
  const workers = new Set<Worker>();
  const end = (): void => {
    leave(path);
    // One that is blocked in native code would keep the process from ending.
    if (workers.size > 0) process.kill(process.pid, "SIGKILL");
    process.exit(0);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, end);
  let links = 0;
  let left = 0;
  let idle = shared && setTimeout(end, FIRST_MS);
  if (shared === undefined) console.log(`${process.version} listens at ${path}`);
  const resourceLimits: ResourceLimits = { maxYoungGenerationSizeMb: MOST_YOUNG_MB };
  if (shared !== undefined && shared.maxHeapMb > 0) {
    resourceLimits.maxOldGenerationSizeMb = shared.maxHeapMb;
  }
  door.listen((fd) => {
    links++;
    clearTimeout(idle);
    const worker = new Worker(fileURLToPath(import.meta.url), {
      argv: [`--addon=${addon}`, `--link=${fd}`],
      resourceLimits,
    });
    workers.add(worker);
    worker.once("error", (error) => {
      console.error(error);
    });
    const ended = new Promise<void>((resolve) => {
      worker.once("exit", () => {
        workers.delete(worker);
        resolve();
      });
    });
    door.watch(fd, () => {
      const late = setTimeout(() => void worker.terminate(), END_MS);
      const lost = setTimeout(() => {
        left++;
        void ended.then(() => left--);
        if (left < MOST_LEFT) return;
        console.error(`${left} environments do not end: their handlers are blocked in native code`);
        // Each worker goes on with the next host. One that was started by hand is left to its user.
        if (shared !== undefined) end();
      }, LEFT_MS);
      void ended.then(() => {
        clearTimeout(late);
        clearTimeout(lost);
      });
      if (--links === 0 && shared !== undefined) idle = setTimeout(end, NEXT_MS);
    });
  });
}

export function runProgram(args: string[]): void {
  const { values } = parseArgs({
    args,
    options: {
      addon: { type: "string" },
      link: { type: "string" },
      listen: { type: "string" },
      "shared-heap-mb": { type: "string" },
    },
  });
  const heap = values["shared-heap-mb"];
  const addon = values.addon ?? fileURLToPath(new URL("resty_ts.node", import.meta.url));
  const binding = createRequire(import.meta.url)(addon) as ProgramBinding;
  if (values.listen === undefined) serve(binding, Number(values.link));
  else
    receive(binding, addon, values.listen, heap === undefined ? heap : { maxHeapMb: Number(heap) });
}
