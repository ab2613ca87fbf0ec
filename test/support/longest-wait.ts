/** How long plain locations of nginx keep their clients waiting while something goes on. */
import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { compileC } from "./compile.js";
import type { Nginx } from "./nginx.js";

/** For nginx's http block: all of them on one connection. */
export const MANY_REQUESTS = "keepalive_requests 100000000;";

/** One that was not short. */
export interface Wait {
  port: number;
  worker: number;
  /** By CLOCK_MONOTONIC, ms. */
  from: number;
  to: number;
  /** Of it, what is no wait for a core. */
  ms: number;
}

export interface Waits {
  longestMs: number;
  requests: number;
  connections: number;
}

const NONE: Waits = { longestMs: 0, requests: 0, connections: 0 };
let program: string | undefined;

/**
 * Asks the workers of these nginx all the time, by a process of its own (prober.c): what is computed
 * here is no part of a wait. What other processes take of the cores is not counted.
 */
export class Probers {
  readonly #process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #totals = new Map<number, Waits>();

  /** @param onWait is told of each wait that is not short. */
  constructor(
    everyMs: number,
    asked: readonly { nginx: Nginx; workers: number }[],
    onWait: (wait: Wait) => void = () => undefined,
  ) {
    program ??= compileC(join(import.meta.dirname, "prober.c"));
    const args = asked.flatMap(({ nginx, workers }) => [nginx.port!, workers]);
    this.#process = spawn(program, [everyMs, ...args].map(String), {
      stdio: ["pipe", "pipe", "inherit"],
    });
    createInterface({ input: this.#process.stdout }).on("line", (line) => {
      const [what, ...numbers] = line.split(" ");
      const [port, second, third, fourth, fifth] = numbers.map(Number) as [number, ...number[]];
      if (what === "wait") {
        onWait({ port, worker: second!, from: third!, to: fourth!, ms: fifth! });
        return;
      }
      const { longestMs, requests, connections } = this.#totals.get(port) ?? NONE;
      this.#totals.set(port, {
        longestMs: Math.max(longestMs, second!),
        requests: requests + third!,
        connections: connections + fourth!,
      });
    });
  }

  /** @returns what it has seen of each nginx, by its port. */
  async stop(): Promise<ReadonlyMap<number, Waits>> {
    const closed = once(this.#process, "close");
    this.#process.stdin.end();
    await closed;
    return this.#totals;
  }
}

/** The longest of an nginx beside it at the same time, if any was not short. */
export function besideMs({ from, to }: Wait, { port }: Nginx, waits: readonly Wait[]): number {
  const beside = waits.filter((one) => one.port === port && one.from < to && one.to > from);
  return Math.max(0, ...beside.map(({ ms }) => ms));
}

/** Asks the only worker until `done` has settled. */
export async function longestWait(nginx: Nginx, done: Promise<unknown>): Promise<Waits> {
  // Not all the time: nginx is to be asked while it is at something else, too.
  const probers = new Probers(1, [{ nginx, workers: 1 }]);
  await done.catch(() => undefined);
  const waits = (await probers.stop()).get(nginx.port!)!;
  if (waits.connections !== 1) throw new Error("nginx has closed the connection");
  return waits;
}
