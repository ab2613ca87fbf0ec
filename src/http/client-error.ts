/** Mistakes of clients: errors that no policy lets pass, as the plugin has not failed. */
import type { ErrorCode } from "../sdk/error-codes.js";
import { RestyTsError } from "../sdk/errors.js";

const STATUS: Readonly<Partial<Record<ErrorCode, number>>> = {
  bad_request: 400,
  too_large: 413,
  unsupported_media_type: 415,
};

/** Of what a parser quotes. */
const MOST_CHARACTERS = 300;

/** @returns what the client is answered when no handler catches the error; undefined: it is another. */
export function clientStatus(error: unknown): number | undefined {
  return error instanceof RestyTsError ? STATUS[error.code] : undefined;
}

/** @param what the malformed thing; @param cause what its parser said, which may quote the client. */
export function malformed(what: string, cause: unknown): RestyTsError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  // One line in the log, whatever the client sent.
  // eslint-disable-next-line no-control-regex -- it is control characters that are taken out
  const text = reason.slice(0, MOST_CHARACTERS).replace(/[\0-\x1f\x7f]+/g, " ");
  return new RestyTsError("bad_request", `${what} is malformed: ${text}`, { cause });
}
