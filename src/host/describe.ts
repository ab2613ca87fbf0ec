/** Whatever was thrown, in words; never throws itself. */
import { inspect } from "node:util";

/** The message alone, for the caller. */
export function messageOf(error: unknown): string {
  try {
    if (error instanceof Error && typeof error.message === "string") return error.message;
    return typeof error === "string" ? error : inspect(error, { depth: 1 });
  } catch {
    return "something that cannot be printed was thrown";
  }
}

const MOST_CAUSES = 5;

/** With the stack, and the causes', for the log. */
export function stackOf(error: unknown): string {
  const parts: string[] = [];
  try {
    let at = error;
    while (at instanceof Error && typeof at.stack === "string" && parts.length < MOST_CAUSES) {
      parts.push(at.stack);
      if (at.cause === undefined) return parts.join("\ncaused by ");
      at = at.cause;
    }
    parts.push(messageOf(at));
  } catch {
    // a getter that throws: the message will have to do
    parts.push(messageOf(error));
  }
  return parts.join("\ncaused by ");
}
