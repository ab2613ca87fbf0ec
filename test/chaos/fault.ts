/** What a fault is, and what several of them need. */
import { until, within } from "../support/deadline.js";
import type { Random } from "../fuzz/random.js";
import type { Answer, Runtime, Site, Worker } from "./site.js";
import type { Windows } from "./windows.js";

export interface Scene {
  site: Site;
  worker: Worker;
  windows: Windows;
  random: Random;
}

export interface Fault {
  name: string;
  /** How often, beside the others. */
  weight: number;
  runtimes: Runtime[];
  /** Whether it can be done to this site. */
  possible?: (site: Site) => boolean;
  /** Does it and waits until its effects are there. @throws when one is not as it must be. */
  run(scene: Scene): Promise<void>;
}

export const BOTH: Runtime[] = ["embedded", "process"];
export const PROCESS: Runtime[] = ["process"];
/** What calls get that were in flight when their environment ended. */
export const ENDS = ["exited", "stalled", "out_of_memory", "protocol"];
export const EFFECT_MS = 40_000;

export function expect(what: string, answer: Answer, ...codes: string[]): void {
  const got = answer.code ?? String(answer.value);
  if (!codes.includes(got)) {
    throw new Error(`${what}: ${JSON.stringify(answer)} in place of ${codes.join(" or ")}`);
  }
}

export async function hostOf(worker: Worker): Promise<number> {
  const { process_id: pid } = await worker.stats();
  if (pid === undefined) throw new Error(`worker ${String(worker.pid)} has no host`);
  return pid;
}

/**
 * Calls of others that are in flight in this environment may fail as it ends. In the middle of its
 * JavaScript no other call is; where it may end anywhere, a call that does not wait may be, too.
 */
export async function duringEnd(
  scene: Scene,
  body: () => Promise<void>,
  anywhere = false,
): Promise<void> {
  // Never the idempotent ones.
  const kinds = anywhere ? ["echo", "large", "late", "access", "filter"] : ["late"];
  const codes = anywhere ? [...ENDS, "refused"] : ENDS;
  const close = scene.windows.open({ codes, kinds, worker: scene.worker.pid });
  try {
    await body();
  } finally {
    close();
  }
}

/** Has one call of the faulty module in flight while `body` runs; it must get one of the codes. */
export async function withHeld(
  worker: Worker,
  codes: string[],
  body: () => Promise<void>,
  deadlineMs?: number,
): Promise<void> {
  const held = worker.ask(deadlineMs === undefined ? "/held" : `/held?ms=${deadlineMs}`);
  held.catch(() => undefined);
  await until("a call is held", async () => (await worker.ask<number>("/in-flight")).value === 1);
  await body();
  expect(
    "the call in flight",
    await within("the call in flight is answered", held, EFFECT_MS),
    ...codes,
  );
}

/** Has the environment of this worker end. `codes`: what that call may get. */
export async function endEnvironment(worker: Worker, codes: string[]): Promise<void> {
  expect("the call that ends it", await worker.ask("/fault?kind=exit&ms=30000"), ...codes);
}
