/**
 * What can be carried between Lua and TypeScript (docs/wire-format.md), checked before a codec
 * would carry it wrongly: for the host's answers and for what plugins put into ctx.ctx.
 *
 * Thread: any; no state. Invariant: what passes comes out of the codec as it went in.
 */

/** Values nested deeper than this are refused, in both directions. */
export const MAX_DEPTH = 100;

/** Elements of all arrays, and keys and values of all maps, of one message; in both directions. */
export const MAX_ELEMENTS = 1_000_000;

const SURROGATE = /[\uD800-\uDFFF]/;
const LONE_SURROGATE = /\p{Surrogate}/u;

/** Node 20 has String.prototype.isWellFormed, Node 18 has not. */
const isWellFormed: (text: string) => boolean =
  "isWellFormed" in String.prototype
    ? (text) => (text as string & { isWellFormed(): boolean }).isWellFormed()
    : (text) => !SURROGATE.test(text) || !LONE_SURROGATE.test(text);

const INT64_MIN = -(2n ** 63n);
const UINT64_MAX = 2n ** 64n - 1n;

/** The value at `path` has no counterpart in Lua. */
export class UncarriableError extends TypeError {}

function refuse(path: string, what: string): never {
  throw new UncarriableError(path === "" ? what : `${what} at ${path}`);
}

let elements = 0;

function count(more: number, path: string): void {
  elements += more;
  if (elements > MAX_ELEMENTS) refuse(path, `more than ${MAX_ELEMENTS} elements`);
}

function checkString(text: string, path: string): void {
  if (!isWellFormed(text)) refuse(path, "a string with a lone surrogate, which is not UTF-8");
}

function checkObject(value: object, path: string, depth: number): void {
  if (ArrayBuffer.isView(value)) {
    if (value instanceof Uint8Array) return;
    refuse(path, `a ${value.constructor.name}: send a Uint8Array`);
  }
  if (depth >= MAX_DEPTH) refuse(path, `nesting deeper than ${MAX_DEPTH}, or a cycle`);
  count(Array.isArray(value) ? value.length : 2 * Object.keys(value).length, path);
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) {
      const item: unknown = value[i];
      // A hole or undefined would come back as null.
      if (item === undefined) refuse(`${path}[${i}]`, "undefined in an array");
      check(item, path, i, depth + 1);
    }
    return;
  }
  if (!isPlain(value)) {
    const name = (value as { constructor?: { name?: string } }).constructor?.name ?? "object";
    refuse(path, `a ${name}: send plain objects, arrays, strings, numbers or Uint8Array`);
  }
  if (Object.getOwnPropertySymbols(value).length > 0) refuse(path, "an object with symbol keys");
  for (const key of Object.keys(value)) {
    checkString(key, path);
    check((value as Record<string, unknown>)[key], path, key, depth + 1);
  }
}

/** Whether it is no class's: its prototype none, or Object's, also of another realm (vm contexts). */
function isPlain(value: object): boolean {
  const prototype: unknown = Object.getPrototypeOf(value);
  return (
    prototype === Object.prototype ||
    prototype === null ||
    (Object.getPrototypeOf(prototype) === null &&
      Object.hasOwn(prototype as object, "isPrototypeOf"))
  );
}

function check(
  value: unknown,
  parent: string,
  key: string | number | undefined,
  depth: number,
): void {
  switch (typeof value) {
    case "number":
    case "boolean":
    case "undefined":
      return;
    case "string":
      if (!isWellFormed(value)) checkString(value, join(parent, key));
      return;
    case "bigint":
      if (value < INT64_MIN || value > UINT64_MAX) {
        refuse(join(parent, key), "a bigint of more than 64 bits");
      }
      return;
    case "object":
      if (value !== null) checkObject(value, join(parent, key), depth);
      return;
    default:
      refuse(join(parent, key), `a ${typeof value}`);
  }
}

function join(parent: string, key: string | number | undefined): string {
  if (key === undefined) return parent;
  return typeof key === "number" ? `${parent}[${key}]` : `${parent}.${key}`;
}

/**
 * Checks what encode will take.
 * @param path how the value is called in messages.
 * @throws {UncarriableError} when Lua has no counterpart for it, or for a part of it.
 */
export function checkCarried(value: unknown, path: string): void {
  elements = 0;
  check(value, path, undefined, 0);
}

/**
 * A value that has been to Lua and back: a copy, without what is undefined.
 * @param value one that checkCarried lets pass.
 */
export function carry(value: unknown): unknown {
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (Array.isArray(value)) return value.map(carry);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([key, item]) => [key, carry(item)]));
}

/** Whether Lua would see no difference. @param carried what carry has made. */
export function isSame(value: unknown, carried: unknown): boolean {
  if (typeof value !== "object" || value === null) return Object.is(value, carried);
  if (typeof carried !== "object" || carried === null) return false;
  if (value instanceof Uint8Array || carried instanceof Uint8Array) {
    return (
      value instanceof Uint8Array &&
      carried instanceof Uint8Array &&
      Buffer.compare(value, carried) === 0
    );
  }
  if (Array.isArray(value) !== Array.isArray(carried)) return false;
  if (!Array.isArray(value) && !isPlain(value)) return false;
  const keys = Object.keys(value).filter(
    (key) => (value as Record<string, unknown>)[key] !== undefined,
  );
  return (
    keys.length === Object.keys(carried).length &&
    Object.getOwnPropertySymbols(value).length === 0 &&
    keys.every(
      (key) =>
        Object.hasOwn(carried, key) &&
        isSame((value as Record<string, unknown>)[key], (carried as Record<string, unknown>)[key]),
    )
  );
}
