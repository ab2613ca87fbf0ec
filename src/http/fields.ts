/**
 * Header fields with Fetch's names: order and repeated fields kept, a change noted for Lua.
 *
 * A flat array and a linear search: requests have ten fields or so, and most handlers read one or
 * two (measured against Fetch's Headers: docs/benchmarks.md).
 */
import type { HeaderFields } from "../sdk/http.js";
import type { FlatFields } from "./head.js";
import { checkFieldChange, checkFieldName, checkFieldValue } from "./validate.js";

/** Told of each change: all values of the name now, or null when there is none. */
export type FieldChange = (name: string, values: string | string[] | null) => void;

export class Fields implements HeaderFields {
  // name, value, name, value, …; names as they came.
  private flat: FlatFields;
  private readonly changed: FieldChange | string;

  /** @param changed told of changes; a text: why there may be none. */
  constructor(flat: FlatFields, changed: FieldChange | string) {
    this.flat = flat;
    this.changed = changed;
  }

  get size(): number {
    return this.flat.length / 2;
  }

  get(name: string): string | null {
    const lower = checkFieldName(name);
    const flat = this.flat;
    let found: string | null = null;
    for (let i = 0; i < flat.length; i += 2) {
      const candidate = flat[i]!;
      if (candidate.length === lower.length && candidate.toLowerCase() === lower) {
        found = found === null ? flat[i + 1]! : `${found}, ${flat[i + 1]!}`;
      }
    }
    return found;
  }

  getAll(name: string): string[] {
    const lower = checkFieldName(name);
    const found: string[] = [];
    for (let i = 0; i < this.flat.length; i += 2) {
      if (this.flat[i]!.toLowerCase() === lower) found.push(this.flat[i + 1]!);
    }
    return found;
  }

  has(name: string): boolean {
    return this.get(name) !== null;
  }

  set(name: string, value: string | readonly string[]): void {
    const lower = this.#mayChange(name);
    const values =
      typeof value === "string"
        ? [checkFieldValue(lower, value)]
        : [...value].map((item) => checkFieldValue(lower, item));
    this.#remove(lower);
    for (const item of values) this.flat.push(name, item);
    this.#tell(name, values);
  }

  append(name: string, value: string): void {
    const lower = this.#mayChange(name);
    this.flat.push(name, checkFieldValue(lower, value));
    this.#tell(name, this.getAll(name));
  }

  delete(name: string): void {
    const lower = this.#mayChange(name);
    if (this.#remove(lower)) this.#tell(name, []);
  }

  *[Symbol.iterator](): Iterator<[string, string]> {
    const flat = this.flat;
    for (let i = 0; i < flat.length; i += 2) yield [flat[i]!, flat[i + 1]!];
  }

  /** For Request and Response of Fetch, which take pairs. */
  pairs(): [string, string][] {
    return [...this];
  }

  copy(): FlatFields {
    return this.flat.slice();
  }

  restore(flat: FlatFields): void {
    this.flat = flat;
  }

  #mayChange(name: string): string {
    if (typeof this.changed === "string") throw new TypeError(this.changed);
    const lower = checkFieldName(name);
    checkFieldChange(lower);
    return lower;
  }

  #remove(lower: string): boolean {
    const flat = this.flat;
    let kept = 0;
    for (let i = 0; i < flat.length; i += 2) {
      if (flat[i]!.toLowerCase() === lower) continue;
      flat[kept++] = flat[i]!;
      flat[kept++] = flat[i + 1]!;
    }
    const removed = kept < flat.length;
    flat.length = kept;
    return removed;
  }

  #tell(name: string, values: string[]): void {
    const change = this.changed as FieldChange;
    change(name, values.length === 0 ? null : values.length === 1 ? values[0]! : values);
  }
}
