/**
 * Header fields with Fetch's names: order and repeated fields kept, a change noted for Lua.
 *
 * Read where they lie in the head, without making strings of those that nobody asks for; a list of
 * their own is made for the first change. A linear search: requests have ten fields or so.
 */
import type { HeaderFields } from "../sdk/http.js";
import type { FieldSource, FlatFields } from "./head.js";
import { checkFieldChange, checkFieldName, checkFieldValue } from "./validate.js";

/**
 * Told of each change: all values of the name now, or null when there is none; and the one that was
 * added, when that is all.
 */
export type FieldChange = (
  name: string,
  values: string | string[] | null,
  appended?: string,
) => void;

const NO_SOURCE: FieldSource = { text: "", offsets: [0] };

/** Whether the name of this length that begins there is `lower`, in any case. */
function isName(text: string, from: number, lower: string): boolean {
  for (let i = 0; i < lower.length; i++) {
    const code = text.charCodeAt(from + i);
    const wanted = lower.charCodeAt(i);
    if (code !== wanted && !(code >= 65 && code <= 90 && code + 32 === wanted)) return false;
  }
  return true;
}

export class Fields implements HeaderFields {
  private readonly source: FieldSource;
  // Once there is one: name, value, name, value, …; names as they came.
  private flat: FlatFields | undefined = undefined;
  private readonly changed: FieldChange | string;

  /**
   * @param source a head's, or a list of their own.
   * @param changed told of changes; a text: why there may be none.
   */
  constructor(source: FieldSource | FlatFields, changed: FieldChange | string) {
    this.source = Array.isArray(source) ? NO_SOURCE : source;
    if (Array.isArray(source)) this.flat = source;
    this.changed = changed;
  }

  get size(): number {
    return this.flat === undefined ? (this.source.offsets.length - 1) / 2 : this.flat.length / 2;
  }

  get(name: string): string | null {
    const lower = checkFieldName(name);
    let found: string | null = null;
    if (this.flat === undefined) {
      const { text, offsets } = this.source;
      for (let i = 0; i < offsets.length - 1; i += 2) {
        const from = offsets[i]!;
        const to = offsets[i + 1]!;
        if (to - from !== lower.length || !isName(text, from, lower)) continue;
        const value = text.slice(to, offsets[i + 2]);
        found = found === null ? value : `${found}, ${value}`;
      }
      return found;
    }
    const flat = this.flat;
    for (let i = 0; i < flat.length; i += 2) {
      const candidate = flat[i]!;
      if (candidate.length === lower.length && isName(candidate, 0, lower)) {
        found = found === null ? flat[i + 1]! : `${found}, ${flat[i + 1]!}`;
      }
    }
    return found;
  }

  getAll(name: string): string[] {
    const lower = checkFieldName(name);
    const flat = this.#flat();
    const found: string[] = [];
    for (let i = 0; i < flat.length; i += 2) {
      if (flat[i]!.length === lower.length && isName(flat[i]!, 0, lower)) found.push(flat[i + 1]!);
    }
    return found;
  }

  has(name: string): boolean {
    return this.get(name) !== null;
  }

  set(name: string, value: string | readonly string[]): void {
    const lower = this.#mayChange(name);
    const flat = this.#flat();
    if (typeof value === "string") {
      const checked = checkFieldValue(lower, value);
      this.#remove(lower);
      flat.push(name, checked);
      (this.changed as FieldChange)(name, checked);
      return;
    }
    const values = [...value].map((item) => checkFieldValue(lower, item));
    this.#remove(lower);
    for (const item of values) flat.push(name, item);
    this.#tell(name, values);
  }

  append(name: string, value: string): void {
    const lower = this.#mayChange(name);
    const checked = checkFieldValue(lower, value);
    this.#flat().push(name, checked);
    this.#tell(name, this.getAll(name), checked);
  }

  delete(name: string): void {
    const lower = this.#mayChange(name);
    if (this.#remove(lower)) this.#tell(name, []);
  }

  *[Symbol.iterator](): Iterator<[string, string]> {
    const flat = this.#flat();
    for (let i = 0; i < flat.length; i += 2) yield [flat[i]!, flat[i + 1]!];
  }

  /** For Request and Response of Fetch, which take pairs. */
  pairs(): [string, string][] {
    return [...this];
  }

  /** What restore takes; undefined: nothing was changed yet. */
  copy(): FlatFields | undefined {
    return this.flat?.slice();
  }

  restore(flat: FlatFields | undefined): void {
    this.flat = flat;
  }

  #flat(): FlatFields {
    if (this.flat === undefined) {
      const { text, offsets } = this.source;
      const flat: FlatFields = [];
      for (let i = 0; i < offsets.length - 1; i++)
        flat.push(text.slice(offsets[i], offsets[i + 1]));
      this.flat = flat;
    }
    return this.flat;
  }

  #mayChange(name: string): string {
    if (typeof this.changed === "string") throw new TypeError(this.changed);
    const lower = checkFieldName(name);
    checkFieldChange(lower);
    return lower;
  }

  #remove(lower: string): boolean {
    const flat = this.#flat();
    let kept = 0;
    for (let i = 0; i < flat.length; i += 2) {
      const name = flat[i]!;
      if (name.length === lower.length && isName(name, 0, lower)) continue;
      if (kept !== i) {
        flat[kept] = name;
        flat[kept + 1] = flat[i + 1]!;
      }
      kept += 2;
    }
    const removed = kept < flat.length;
    if (removed) flat.length = kept;
    return removed;
  }

  #tell(name: string, values: string[], appended?: string): void {
    const change = this.changed as FieldChange;
    const all = values.length === 0 ? null : values.length === 1 ? values[0]! : values;
    change(name, all, appended);
  }
}
