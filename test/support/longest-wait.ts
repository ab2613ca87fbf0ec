/** How long a plain location of nginx keeps its clients waiting while something goes on. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { connect } from "node:net";
import type { Nginx } from "./nginx.js";

const REQUEST = "GET /_up HTTP/1.1\r\nHost: a\r\n\r\n";

/** For nginx's http block: all of them on one connection. */
export const MANY_REQUESTS = "keepalive_requests 100000000;";

export interface Waits {
  longestMs: number;
  requests: number;
}

/** For how long threads were ready to run and had no core: the machine's doing. */
export function delayedMs(pids: number[]): number {
  let ms = 0;
  for (const pid of pids) {
    const text = readFileSync(`/proc/${pid}/task/${pid}/schedstat`, "utf8");
    ms += Number(text.split(" ")[1]) / 1e6;
  }
  return ms;
}

/**
 * Asks the only worker one thing after the other on one connection until `done` has settled. What
 * other processes take of the cores is not counted.
 */
export async function longestWait(nginx: Nginx, done: Promise<unknown>): Promise<Waits> {
  const pids = [process.pid, nginx.workerPid()];
  const waits: Waits = { longestMs: 0, requests: 0 };
  const state = { busy: true };
  const settled = (): void => {
    state.busy = false;
  };
  done.then(settled, settled);
  const socket = connect(nginx.port!, "127.0.0.1").setNoDelay();
  await once(socket, "connect");
  const closed = once(socket, "close").then(() => {
    if (state.busy) throw new Error("nginx has closed the connection");
  });
  while (state.busy) {
    const from = performance.now() - delayedMs(pids);
    socket.write(REQUEST);
    await Promise.race([once(socket, "data"), closed]);
    const ms = performance.now() - delayedMs(pids) - from;
    waits.longestMs = Math.max(waits.longestMs, ms);
    waits.requests++;
    // Not all the time: nginx is to be asked while it is at something else, too.
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  socket.destroy();
  return waits;
}
