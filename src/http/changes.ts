/** The codes of docs/http-protocol.md, and byte strings as the wire has them. */
import type { FieldName } from "./field-names.js";

export const Change = {
  requestField: 1,
  method: 2,
  uri: 3,
  requestBody: 4,
  responseField: 5,
  status: 6,
  variable: 7,
  ctx: 8,
  upstream: 9,
  exit: 10,
  ask: 11,
  stream: 12,
  chunk: 13,
  failed: 14,
  appendField: 16,
  attachConsumer: 17,
  refused: 18,
  handler: 19,
  writeField: 20,
  undo: 21,
  appendRequestField: 22,
} as const;

/** code, arguments, code, arguments, …; null: none. */
export type Changes = unknown[] | null;

const ASCII = /^[\0-\x7f]*$/;

/** A byte string for the wire: as a string when that is the same bytes. */
export function wireBytes(text: string): string | Uint8Array {
  return ASCII.test(text) ? text : Buffer.from(text, "latin1");
}

/** What is ASCII, and what lua-nginx-module neither deletes, as it does the empty, nor escapes. */
const PLAIN = /^[\t -~]+$/;
const NEEDS_WRITING = /^$|[^\t -~\x80-\xff]/;

/**
 * Notes what becomes of a field.
 * @param code requestField, appendRequestField, responseField or appendField.
 * @param name as it was spelt.
 * @param values null: it is deleted.
 */
export function changeField(
  to: { change(code: number, ...values: unknown[]): void },
  code: number,
  field: FieldName,
  name: string,
  values: string | readonly string[] | null,
): void {
  const isRequest = code === Change.requestField || code === Change.appendRequestField;
  const isOdd = !isRequest && field.isOddInResponses;
  if (!isOdd && typeof values === "string" && PLAIN.test(values)) {
    to.change(code, name, values);
    return;
  }
  const all = typeof values === "string" ? [values] : (values ?? []);
  const wire = all.map(wireBytes);
  if (isOdd || all.some((value) => NEEDS_WRITING.test(value))) {
    to.change(Change.writeField, code, name, wire);
    return;
  }
  to.change(code, name, wire.length === 0 ? null : wire.length === 1 ? wire[0] : wire);
}

/** The byte string that came as a string (UTF-8) or as bytes. */
export function fromWire(value: string | Uint8Array): string {
  if (typeof value === "string") {
    return ASCII.test(value) ? value : Buffer.from(value, "utf8").toString("latin1");
  }
  return Buffer.from(value.buffer, value.byteOffset, value.length).toString("latin1");
}
