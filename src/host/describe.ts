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

/** With the stack, for the log. */
export function stackOf(error: unknown): string {
  try {
    if (error instanceof Error && typeof error.stack === "string") return error.stack;
  } catch {
    // a getter that throws: the message will have to do
  }
  return messageOf(error);
}
