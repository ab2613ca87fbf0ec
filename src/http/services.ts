/**
 * What a run needs of the engine, and what the engine keeps for runs.
 *
 * Thread: the environment's own.
 */
import type { Chain } from "./chain.js";
import type { Head } from "./head.js";
import type { RequestState } from "./requests.js";
import type { BodyRest } from "./response.js";
import type { Run } from "./run.js";

/** Of one chain: it may have a filter of the body in two phases. */
export function bodyRunKey({ token, phase }: Head): number {
  return token * 16 + phase;
}

/** What a run needs of the engine. */
export interface Services {
  /** @throws {Error} when Lua has no counterpart for the value; the message begins with `path`. */
  checkCarried(value: unknown, path: string): void;
  stackOf(error: unknown): string;
  /** Logs what nobody waits for. */
  report(title: string, error: unknown): void;
  /** Keeps the worker's shutdown waiting for it, and logs its failure. */
  track(work: Promise<unknown>, title: string, chain: Chain): void;
  /** @returns the id by which Lua resumes the run. */
  park(run: Run): number;
  unpark(run: Run): void;
  /** Asks Lua what needs no request. */
  ask(words: unknown[]): Promise<unknown[]>;
  openStream(run: Run, rest: BodyRest): number;
  /** The state of a request that Lua has sent a message of, and waits. */
  enter(requestId: number): RequestState;
  /** The run is done. */
  leave(run: Run, state: RequestState): void;
}

export interface RunInput {
  readonly vars: readonly unknown[] | null;
  readonly ctx: Readonly<Record<string, unknown>> | null;
  readonly chunk: Uint8Array | null;
  /** When Lua gives up, ms since the epoch. */
  readonly deadline: number;
  /** Of log: when the request had ended, ms since the epoch. */
  readonly endTime?: number;
}
