/** Text and its UTF-8. */

const utf8 = new TextDecoder();
const encoder = new TextEncoder();

export function bytesOf(text: string): Uint8Array {
  return encoder.encode(text);
}

/** A variable's value as text; bytes that are no UTF-8 are U+FFFD. */
export function textOf(value: unknown): string | undefined {
  if (value === null || value === undefined) return undefined;
  if (value instanceof Uint8Array) return utf8.decode(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}
