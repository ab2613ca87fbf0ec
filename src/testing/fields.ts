/** Lists of header fields, and what nginx does to them. Names and values are byte strings. */
import type { FlatFields } from "../http/head.js";
import { trimmed } from "../http/validate.js";
import type { FieldsInit } from "./types.js";

const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

function isIterable(value: object): value is Iterable<readonly [string, string]> {
  return Symbol.iterator in value;
}

/** @throws {TypeError} for what no client could send. */
export function flatten(init: FieldsInit | undefined): FlatFields {
  if (init === undefined) return [];
  const pairs: Iterable<readonly [string, string | readonly string[]]> = isIterable(init)
    ? init
    : Object.entries(init);
  const flat: FlatFields = [];
  for (const [name, values] of pairs) {
    if (!TOKEN.test(name)) throw new TypeError(`${JSON.stringify(name)} is no field name`);
    for (const value of typeof values === "string" ? [values] : values) {
      if (/[\0\r\n]|[^\0-\xff]/.test(value)) {
        throw new TypeError(`the value of ${name} is not one line of bytes: ${value}`);
      }
      flat.push(name, trimmed(value));
    }
  }
  return flat;
}

export function valuesOf(flat: Readonly<FlatFields>, name: string): string[] {
  const lower = name.toLowerCase();
  return flat.filter((_, i) => i % 2 === 1 && flat[i - 1]!.toLowerCase() === lower);
}

export function valueOf(flat: FlatFields, name: string): string | undefined {
  return valuesOf(flat, name)[0];
}

/** The pairs for which `keep` holds. */
export function filterFields(flat: FlatFields, keep: (lower: string) => boolean): FlatFields {
  const kept: FlatFields = [];
  for (let i = 0; i < flat.length; i += 2) {
    if (keep(flat[i]!.toLowerCase())) kept.push(flat[i]!, flat[i + 1]!);
  }
  return kept;
}

/**
 * Sets a field as ngx.req.set_header and ngx.header do: the first of the name gets the first value
 * in its place, further ones go, further values come last. No value removes it.
 */
export function setField(flat: FlatFields, name: string, values: readonly string[]): void {
  const lower = name.toLowerCase();
  const [first, ...others] = values;
  let placed = first === undefined;
  let kept = 0;
  for (let i = 0; i < flat.length; i += 2) {
    let value = flat[i + 1]!;
    if (flat[i]!.toLowerCase() === lower) {
      if (placed) continue;
      placed = true;
      value = first!;
    }
    flat[kept++] = flat[i]!;
    flat[kept++] = value;
  }
  flat.length = kept;
  if (!placed) flat.push(name, first!);
  for (const value of others) flat.push(name, value);
}
