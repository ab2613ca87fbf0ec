/**
 * Header fields with Fetch's names: order and repeated fields kept, a change noted for Lua.
 *
 * Read where they lie in the head, without making strings of those that nobody asks for, also when
 * some are changed: those are hidden there. A linear search: requests have ten fields or so.
 */
import type { HeaderFields } from "../sdk/http.js";
import { type FieldName, fieldName, type Side } from "./field-names.js";
import type { FieldSource, FlatFields, Head } from "./head.js";
import { ReadableFields, separatorOf } from "./read-fields.js";
import { checkFieldValue } from "./validate.js";

/** Whose fields they are. */
export interface FieldsOwner {
  readonly head: Head;
  /** @throws {TypeError} when they may not be changed. */
  checkChange(): void;
  /**
   * Told of each change: all values of the name now, or null when there is none; and the one that was
   * added, when that is all.
   */
  fieldChanged(
    field: FieldName,
    name: string,
    values: string | string[] | null,
    appended?: string,
  ): void;
}

/** Whether the name of this length that begins there is `lower`, in any case. */
function isName(text: string, from: number, lower: string): boolean {
  for (let i = 0; i < lower.length; i++) {
    const code = text.charCodeAt(from + i);
    const wanted = lower.charCodeAt(i);
    if (code !== wanted && !(code >= 65 && code <= 90 && code + 32 === wanted)) return false;
  }
  return true;
}

/** Whether `name`, in any case, is `lower`. */
function isField(name: string, lower: string): boolean {
  return name.length === lower.length && isName(name, 0, lower);
}

/** What was changed: names in lower case that the head is no longer asked for, and fields after its own. */
interface Changed {
  readonly hidden: string[];
  /** name, value, name, value, … */
  readonly own: FlatFields;
}

export class Fields extends ReadableFields implements HeaderFields {
  private readonly owner: FieldsOwner;
  private readonly side: Side;
  private source: FieldSource | undefined = undefined;
  private changes: Changed | undefined = undefined;

  constructor(owner: FieldsOwner, side: Side) {
    super();
    this.owner = owner;
    this.side = side;
  }

  get size(): number {
    let size = 0;
    this.#each(() => size++);
    return size;
  }

  get(name: string): string | null {
    const { lower } = fieldName(name);
    const { changes } = this;
    let found: string | null = null;
    if (changes === undefined || !changes.hidden.includes(lower)) {
      const { text, offsets } = this.#source();
      for (let i = 0; i < offsets.length - 1; i += 2) {
        const from = offsets[i]!;
        const to = offsets[i + 1]!;
        if (to - from !== lower.length || !isName(text, from, lower)) continue;
        const value = text.slice(to, offsets[i + 2]);
        found = found === null ? value : found + separatorOf(lower) + value;
      }
    }
    if (changes === undefined) return found;
    const { own } = changes;
    for (let i = 0; i < own.length; i += 2) {
      if (!isField(own[i]!, lower)) continue;
      found = found === null ? own[i + 1]! : found + separatorOf(lower) + own[i + 1]!;
    }
    return found;
  }

  getAll(name: string): string[] {
    return this.#valuesOf(fieldName(name).lower);
  }

  set(name: string, value: string | number | readonly (string | number)[]): void {
    const field = this.#mayChange(name);
    const { lower } = field;
    if (Array.isArray(value)) {
      const values = (value as readonly unknown[]).map((item) => checkFieldValue(lower, item));
      if (values.length > 1 && this.#isSingle(field)) {
        this.#setOne(name, field, joined(lower, values));
      } else this.#setAll(name, field, values);
      return;
    }
    const checked = checkFieldValue(lower, value);
    if (this.#isSingle(field)) {
      this.#setOne(name, field, checked);
      return;
    }
    this.#remove(lower).own.push(name, checked);
    this.owner.fieldChanged(field, name, checked);
  }

  append(name: string, value: string | number): void {
    const field = this.#mayChange(name);
    const { lower } = field;
    const checked = checkFieldValue(lower, value);
    if (this.#isSingle(field)) {
      this.#setOne(name, field, joined(lower, [...this.#valuesOf(lower), checked]));
      return;
    }
    this.#changes().own.push(name, checked);
    this.#tell(name, field, this.#valuesOf(lower), checked);
  }

  delete(name: string): void {
    const field = this.#mayChange(name);
    // All of the request's are known here; nginx may have, or get, others of a response.
    if (this.side === "request" && !this.has(name)) return;
    this.#setAll(name, field, []);
  }

  pairs(): [string, string][] {
    const pairs: [string, string][] = [];
    this.#each((name, value) => pairs.push([name, value]));
    return pairs;
  }

  /** What another owner begins with. */
  copyFor(owner: FieldsOwner): Fields {
    const copy = new Fields(owner, this.side);
    const { source, changes } = this;
    copy.source = source;
    if (changes) copy.changes = { hidden: changes.hidden.slice(), own: changes.own.slice() };
    return copy;
  }

  #valuesOf(lower: string): string[] {
    const { changes } = this;
    const found: string[] = [];
    if (changes === undefined || !changes.hidden.includes(lower)) {
      const { text, offsets } = this.#source();
      for (let i = 0; i < offsets.length - 1; i += 2) {
        const from = offsets[i]!;
        const to = offsets[i + 1]!;
        if (to - from === lower.length && isName(text, from, lower)) {
          found.push(text.slice(to, offsets[i + 2]));
        }
      }
    }
    const own = changes?.own ?? [];
    for (let i = 0; i < own.length; i += 2) {
      if (isField(own[i]!, lower)) found.push(own[i + 1]!);
    }
    return found;
  }

  /** Handlers that only set fields have no need of it. */
  #source(): FieldSource {
    return (this.source ??=
      this.side === "request" ? this.owner.head.requestFields() : this.owner.head.responseFields());
  }

  #changes(): Changed {
    return (this.changes ??= { hidden: [], own: [] });
  }

  #each(use: (name: string, value: string) => void): void {
    const { changes } = this;
    const { text, offsets } = this.#source();
    for (let i = 0; i < offsets.length - 1; i += 2) {
      const name = text.slice(offsets[i], offsets[i + 1]);
      if (changes?.hidden.some((lower) => isField(name, lower))) continue;
      use(name, text.slice(offsets[i + 1], offsets[i + 2]));
    }
    const own = changes?.own ?? [];
    for (let i = 0; i < own.length; i += 2) use(own[i]!, own[i + 1]!);
  }

  #mayChange(name: string): FieldName {
    this.owner.checkChange();
    const field = fieldName(name);
    field.checkChange(this.side);
    return field;
  }

  #isSingle(field: FieldName): boolean {
    return this.side === "request" ? field.isSingleInRequests : field.isSingleInResponses;
  }

  /** Of a field that nginx has once: of several lines it would replace one alone. */
  #setOne(name: string, field: FieldName, value: string): void {
    const { lower } = field;
    if (this.#valuesOf(lower).length > 1) this.owner.fieldChanged(field, name, null);
    // nginx has no empty ones of its own; any other field may be empty (RFC 9110, 5.5).
    const isNone = value === "" && (this.side === "response" || lower === "host");
    this.#setAll(name, field, isNone ? [] : [value]);
  }

  #setAll(name: string, field: FieldName, values: string[]): void {
    const { own } = this.#remove(field.lower);
    for (const item of values) own.push(name, item);
    this.#tell(name, field, values);
  }

  #remove(lower: string): Changed {
    const changes = this.#changes();
    const { hidden, own } = changes;
    if (!hidden.includes(lower)) hidden.push(lower);
    let kept = 0;
    for (let i = 0; i < own.length; i += 2) {
      if (isField(own[i]!, lower)) continue;
      own[kept] = own[i]!;
      own[kept + 1] = own[i + 1]!;
      kept += 2;
    }
    if (kept < own.length) own.length = kept;
    return changes;
  }

  #tell(name: string, field: FieldName, values: string[], appended?: string): void {
    const all = values.length === 0 ? null : values.length === 1 ? values[0]! : values;
    this.owner.fieldChanged(field, name, all, appended);
  }
}

function joined(lower: string, values: readonly string[]): string {
  return values.join(separatorOf(lower));
}

/** A head's fields, to read. */
export function fieldsOf(head: Head, side: Side): ReadableFields {
  const refuse = (): never => {
    throw new TypeError("these fields are to be read");
  };
  return new Fields({ head, checkChange: refuse, fieldChanged: refuse }, side);
}
