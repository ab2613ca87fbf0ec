/**
 * One call from Lua, from its record to its answer. It is `this` of the handler.
 *
 * Thread: the environment's own. Invariant: `settled` turns true once, and then the call is
 * answered exactly once.
 */
import type { CallContext, Log } from "../sdk/context.js";
import type { RestyTsError } from "../sdk/errors.js";
import type { HandlerFunction } from "./dispatcher.js";

export class Call implements CallContext {
  readonly id: number;
  readonly deadline: number;
  /** What was called; for messages and logs. */
  readonly handler: HandlerFunction;
  settled = false;
  /** Told when nobody waits any more; for the host's own modules. */
  onAbort: ((reason: RestyTsError) => void) | undefined = undefined;
  // Not #private: one is made for every call, and those cost more.
  private controller: AbortController | undefined = undefined;
  private reason: RestyTsError | undefined = undefined;

  constructor(id: number, handler: HandlerFunction, deadline: number) {
    this.id = id;
    this.handler = handler;
    this.deadline = deadline;
  }

  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.reason !== undefined) this.controller.abort(this.reason);
    }
    return this.controller.signal;
  }

  get log(): Log {
    return this.handler.log;
  }

  abort(reason: RestyTsError): void {
    this.reason = reason;
    this.controller?.abort(reason);
    this.onAbort?.(reason);
  }
}
