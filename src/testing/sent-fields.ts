/** Header fields that have been sent: to be read by a test, as plugins read theirs. */
import type { HeaderFields } from "../sdk/http.js";
import type { FlatFields } from "../http/head.js";
import { valuesOf } from "./fields.js";

export class SentFields implements HeaderFields {
  readonly #flat: Readonly<FlatFields>;

  constructor(flat: Readonly<FlatFields>) {
    this.#flat = [...flat];
  }

  get size(): number {
    return this.#flat.length / 2;
  }

  get(name: string): string | null {
    const values = this.getAll(name);
    return values.length === 0 ? null : values.join(", ");
  }

  getAll(name: string): string[] {
    return valuesOf(this.#flat, name);
  }

  has(name: string): boolean {
    return this.getAll(name).length > 0;
  }

  *[Symbol.iterator](): Iterator<[string, string]> {
    for (let i = 0; i < this.#flat.length; i += 2) yield [this.#flat[i]!, this.#flat[i + 1]!];
  }

  set(): never {
    throw new TypeError("these fields have been sent: they cannot be changed");
  }

  append(): never {
    return this.set();
  }

  delete(): never {
    return this.set();
  }
}
