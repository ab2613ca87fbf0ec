/** What a handler may know of its call. */

/** Writes to nginx's error log, each call one line. */
export interface Log {
  /** At nginx's level error. Errors among the arguments come with their stack. */
  error(this: void, ...args: unknown[]): void;
  /** At level warn. */
  warn(this: void, ...args: unknown[]): void;
  /** At level notice. */
  notice(this: void, ...args: unknown[]): void;
  /** At level info: nginx's error_log must ask for it. */
  info(this: void, ...args: unknown[]): void;
  /** At level debug: nginx's error_log must ask for it. */
  debug(this: void, ...args: unknown[]): void;
}

/**
 * `this` of a handler that is not an arrow function:
 *
 *     export async function slow(this: CallContext, url: string) {
 *       return (await fetch(url, { signal: this.signal })).status;
 *     }
 */
export interface CallContext {
  /**
   * Aborted when nobody waits for the answer any more: the deadline has passed (its reason is a
   * RestyTsError with code "timeout"), or the caller is gone ("aborted").
   */
  readonly signal: AbortSignal;
  /** When the caller gives up, in ms since the epoch; Infinity for a notification. */
  readonly deadline: number;
  /** Writes to nginx's error log, with the module's and the function's name. */
  readonly log: Log;
}
