/** Header fields to read: what all kinds of them have in common, and those of a flat list. */
import type { ReadonlyHeaderFields } from "../sdk/http.js";
import type { FlatFields } from "./head.js";

/** Between the values of a repeated field, when they are one (RFC 9110, 5.3; RFC 9113, 8.2.3). */
export function separatorOf(lower: string): string {
  return lower === "cookie" ? "; " : ", ";
}

export abstract class ReadableFields implements ReadonlyHeaderFields {
  abstract get(name: string): string | null;
  abstract getAll(name: string): string[];
  abstract readonly size: number;
  /** All of them, in their order; for Request and Response of Fetch, too, which take pairs. */
  abstract pairs(): [string, string][];

  has(name: string): boolean {
    return this.get(name) !== null;
  }

  getSetCookie(): string[] {
    return this.getAll("set-cookie");
  }

  *keys(): IterableIterator<string> {
    for (const [name] of this.pairs()) yield name;
  }

  *values(): IterableIterator<string> {
    for (const [, value] of this.pairs()) yield value;
  }

  *entries(): IterableIterator<[string, string]> {
    yield* this.pairs();
  }

  [Symbol.iterator](): IterableIterator<[string, string]> {
    return this.entries();
  }

  forEach(
    visit: (value: string, name: string, fields: ReadonlyHeaderFields) => void,
    thisArg?: unknown,
  ): void {
    for (const [name, value] of this.pairs()) visit.call(thisArg, value, name, this);
  }
}

/** Those of a list: name, value, name, value, … */
export class FlatFieldsReader extends ReadableFields {
  readonly #flat: Readonly<FlatFields>;

  constructor(flat: Readonly<FlatFields>) {
    super();
    this.#flat = [...flat];
  }

  get size(): number {
    return this.#flat.length / 2;
  }

  get(name: string): string | null {
    const values = this.getAll(name);
    return values.length === 0 ? null : values.join(separatorOf(name.toLowerCase()));
  }

  getAll(name: string): string[] {
    const lower = name.toLowerCase();
    return this.pairs()
      .filter(([candidate]) => candidate.toLowerCase() === lower)
      .map(([, value]) => value);
  }

  pairs(): [string, string][] {
    const pairs: [string, string][] = [];
    for (let i = 0; i < this.#flat.length; i += 2) pairs.push([this.#flat[i]!, this.#flat[i + 1]!]);
    return pairs;
  }
}
