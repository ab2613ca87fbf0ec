// Echoes, in every way and order that a handler may answer in. Each token may come once.
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

let seen = new Uint8Array(0);
let calls = 0;

function take(token: number): void {
  if (seen[token] !== 0) throw new Error(`token ${token} came twice, or is none`);
  seen[token] = 1;
  calls++;
}

export function begin(count: number) {
  seen = new Uint8Array(count).fill(1).fill(0); // resident from the beginning
  calls = 0;
}

/** How many calls came, and how many tokens did not. */
export function end() {
  return [calls, seen.reduce((missing, one) => missing + (one === 0 ? 1 : 0), 0)];
}

/** Collects garbage. @returns MiB that Node knows of then, for the report. */
export function collect() {
  collectGarbage();
  const { heapUsed, heapTotal, external, arrayBuffers } = process.memoryUsage();
  return [heapUsed, heapTotal, external, arrayBuffers].map((bytes) => Math.round(bytes / 1048576));
}

type Answer = [number, unknown];

export function sync(token: number, payload: unknown): Answer {
  take(token);
  return [token, payload];
}

export async function microtask(token: number, payload: unknown): Promise<Answer> {
  take(token);
  await Promise.resolve();
  return [token, payload];
}

export async function timer(token: number, payload: unknown): Promise<Answer> {
  take(token);
  await new Promise((resolve) => setTimeout(resolve, token % 4));
  return [token, payload];
}

let held: (() => void)[] = [];

/** Holds what comes in one turn of the loop, and answers it backwards. */
export function backwards(token: number, payload: unknown): Promise<Answer> {
  take(token);
  if (held.length === 0) {
    setImmediate(() => {
      const all = held;
      held = [];
      while (all.length > 0) all.pop()!();
    });
  }
  return new Promise((resolve) => {
    held.push(() => {
      resolve([token, payload]);
    });
  });
}
