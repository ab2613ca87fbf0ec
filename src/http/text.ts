/** What came over the wire, as text. */

const utf8 = new TextDecoder();

/** A variable's value as text; bytes that are no UTF-8 are U+FFFD. */
export function textOf(value: unknown): string | undefined {
  if (value === null || value === undefined) return undefined;
  if (value instanceof Uint8Array) return utf8.decode(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}
