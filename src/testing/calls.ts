/**
 * Calls of the engine as Lua makes them: with a deadline, until the client leaves, counted by phase.
 */
import type { Changes } from "../http/changes.js";
import type { Caller, Engine } from "../http/engine.js";
import { RestyTsError } from "../sdk/errors.js";
import type { ErrorCode } from "../sdk/error-codes.js";
import type { Phase } from "../sdk/plugin.js";

/** The code that decides which policy is for a failure. */
export function codeOf(error: unknown): ErrorCode {
  return error instanceof RestyTsError ? error.code : "handler_failed";
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export class Calls {
  readonly engine: Engine;
  readonly counts: Partial<Record<Phase, number>> = {};
  /** Set once the client has left. */
  gone: RestyTsError | undefined = undefined;
  #abort: ((reason: RestyTsError) => void) | undefined;

  constructor(engine: Engine) {
    this.engine = engine;
  }

  count(phase: Phase): void {
    this.counts[phase] = (this.counts[phase] ?? 0) + 1;
  }

  leave(): void {
    this.gone ??= new RestyTsError("aborted", "the client has left");
    this.#abort?.(this.gone);
  }

  /** @param ms undefined: no deadline. @throws what the engine throws; "timeout"; "aborted". */
  async run<T extends Changes | Uint8Array | null>(
    phase: Phase,
    ms: number | undefined,
    start: (caller: Caller) => T | Promise<T>,
  ): Promise<T> {
    if (this.gone !== undefined) throw this.gone;
    this.count(phase);
    const deadline = ms === undefined ? Infinity : Date.now() + ms;
    const caller: Caller = { deadline, onAbort: undefined };
    const pending = start(caller);
    if (!(pending instanceof Promise)) return pending;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#abort = (reason) => {
          caller.onAbort?.(reason);
          reject(reason);
        };
        if (ms !== undefined) {
          timer = setTimeout(() => {
            const text = `${phase} was not done within ${ms} ms`;
            this.#abort?.(new RestyTsError("timeout", text));
          }, ms);
        }
        pending.then(resolve, reject);
        // While the handlers ran, before they waited.
        if (this.gone !== undefined) this.#abort(this.gone);
      });
    } finally {
      this.#abort = undefined;
      clearTimeout(timer);
    }
  }
}
