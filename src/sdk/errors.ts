/** The errors that plugins see and throw. Pure TypeScript: no native file, no Node module. */
import type { ErrorCode } from "./error-codes.js";

/**
 * Every failure that the runtime itself reports. `code` is one of the table in docs/errors.md.
 *
 * As the reason of an AbortSignal its `name` is "TimeoutError" or "AbortError", as the platform's
 * own reasons are called.
 */
export class RestyTsError extends Error {
  /** Which failure it is: docs/errors.md says what to do. */
  readonly code: ErrorCode;

  /** Handlers may throw one of their own. @param message the cause and the cure; it is logged. */
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name =
      code === "timeout" ? "TimeoutError" : code === "aborted" ? "AbortError" : "RestyTsError";
    this.code = code;
  }
}
