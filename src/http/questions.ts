/** Questions to Lua that wait for their replies: a run's, and those that need no request. */
import { RestyTsError } from "../sdk/errors.js";
import { textOf } from "./text.js";

export interface Question {
  /** Kind and arguments: docs/http-protocol.md. */
  readonly words: unknown[];
  readonly resolve: (values: unknown[]) => void;
  readonly reject: (error: unknown) => void;
}

/** @param replies to the questions, in their order: true and values, or false and a text. */
export function settle(asked: readonly Question[], replies: readonly (readonly unknown[])[]): void {
  for (const [i, { resolve, reject }] of asked.entries()) {
    const [ok, ...values] = replies[i] ?? [false, "no reply"];
    if (ok === true) resolve(values);
    else reject(new RestyTsError("handler_failed", textOf(values[0]) ?? "failed"));
  }
}
