/**
 * Entries for log handlers, which come in batches when their requests have ended.
 *
 * Thread: the environment's own. Invariant: each entry is answered for once: when its handlers have
 * ended, or when there are none to be called any more.
 */
import { RestyTsError } from "../sdk/errors.js";
import type { Chain } from "./chain.js";
import type { Changes } from "./changes.js";
import { Head } from "./head.js";
import type { RunInput } from "./services.js";

export type LogEntry = readonly [
  head: Uint8Array,
  vars: readonly unknown[] | null,
  ctx: Record<string, unknown> | null,
  /** When the request had ended, ms since the epoch. */
  endTime: number,
];

export interface LogParts {
  ready(token: number): Chain | undefined;
  /** One that is not ready yet. */
  configured(token: number): Promise<Chain> | undefined;
  start(chain: Chain, head: Head, input: RunInput): Changes | Promise<Changes>;
  report(title: string, error: unknown): void;
  logged(done: number, dropped: number): void;
  /** What to wait for before the next entry begins, if anything. */
  pause(): Promise<void> | undefined;
}

type Work = readonly [chain: Chain, head: Head, entry: LogEntry];

/** The chain stays until its handlers have begun. */
function held(chain: Chain, head: Head, entry: LogEntry): Work {
  chain.hold();
  return [chain, head, entry];
}

export class LogRuns {
  readonly #parts: LogParts;
  /** Batches of which not all entries have begun. */
  readonly #waiting = new Set<Promise<unknown>>();
  /** A batch's entries begin when those of the one before have. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(parts: LogParts) {
    this.#parts = parts;
  }

  /** Resolves when all entries that are here have begun; undefined: they have. */
  get begun(): Promise<unknown> | undefined {
    return this.#waiting.size > 0 ? Promise.all(this.#waiting) : undefined;
  }

  /** Resolves when their handlers have ended. Each failure is logged, none is anybody's. */
  async run(entries: readonly LogEntry[]): Promise<void> {
    const pending: Promise<void>[] = [];
    const late = new Map<number, LogEntry[]>();
    const work: Work[] = [];
    for (const entry of entries) {
      const head = new Head(entry[0]);
      const { token } = head;
      const chain = this.#parts.ready(token);
      if (chain !== undefined) work.push(held(chain, head, entry));
      else if (late.get(token)?.push(entry) === undefined) late.set(token, [entry]);
    }
    const own = this.#last.then(() => this.#begin(work, pending));
    this.#last = own.catch(() => undefined); // it is `begun` that fails
    const begun = Promise.all([own, ...[...late].map((one) => this.#beginLate(...one, pending))]);
    this.#waiting.add(begun);
    await begun.finally(() => this.#waiting.delete(begun));
    await Promise.all(pending);
  }

  /** Entries that the environment before has left come before their chain is ready in this one. */
  async #beginLate(
    token: number,
    entries: readonly LogEntry[],
    pending: Promise<void>[],
  ): Promise<void> {
    try {
      const chain = await this.#parts.configured(token);
      if (chain === undefined) {
        throw new RestyTsError("bad_argument", `configuration ${token} is not known any more`);
      }
      const work = entries.map((entry) => held(chain, new Head(entry[0]), entry));
      await this.#begin(work, pending);
    } catch (error) {
      this.#drop(entries.length, error);
    }
  }

  /** One after the other. */
  async #begin(work: readonly Work[], pending: Promise<void>[]): Promise<void> {
    const done = (): void => {
      this.#parts.logged(1, 0);
    };
    for (const [chain, head, [, vars, ctx, endTime]] of work) {
      const input = { vars, ctx, chunk: null, deadline: Infinity, endTime };
      const running = this.#parts.start(chain, head, input);
      chain.letGo();
      if (running instanceof Promise) pending.push(running.then(done));
      else done();
      await this.#parts.pause();
    }
  }

  #drop(count: number, error: unknown): void {
    this.#parts.logged(0, count);
    this.#parts.report(`log, of ${count} entries,`, error);
  }
}
