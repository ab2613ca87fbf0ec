/**
 * ngx.shared in memory: results as Lua has them, texts of errors as lua-nginx-module has them.
 *
 * Invariant: a value that has outlived its time is not there for anybody.
 */
import type { TestDict } from "./types.js";

type Scalar = string | number | boolean | Uint8Array;
type ListItem = string | number | Uint8Array;

interface Entry {
  value: Scalar | ListItem[];
  /** On the kit's clock, in ms; Infinity: for ever. */
  expires: number;
}

/** Lua's results. */
type Results = unknown[];

/** Time as the dictionaries have it. */
export interface Clock {
  nowMs: number;
}

const strict = new TextDecoder("utf-8", { fatal: true });

/** Lua has one kind of string: bytes that are UTF-8 come back as text. */
function stored(value: unknown): unknown {
  if (!(value instanceof Uint8Array)) return value;
  try {
    return strict.decode(value);
  } catch {
    return value.slice();
  }
}

export class Dict implements TestDict {
  readonly #entries = new Map<string, Entry>();
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  // For tests ---------------------------------------------------------------------------------

  get(key: string): Scalar | null {
    const value = this.#find(key)?.value;
    return value === undefined || Array.isArray(value) ? null : value;
  }

  set(key: string, value: string | number | boolean, ttlSeconds = 0): void {
    this.#put(key, value, ttlSeconds);
  }

  list(key: string): readonly ListItem[] {
    const value = this.#find(key)?.value;
    return Array.isArray(value) ? [...value] : [];
  }

  keys(): string[] {
    return [...this.#entries.keys()].filter((key) => this.#find(key) !== undefined);
  }

  // For plugins -------------------------------------------------------------------------------

  /** @throws {Error} where Lua throws: a bad argument. */
  call(method: string, key: unknown, args: readonly unknown[]): Results {
    if (key === null || key === undefined) return [null, "nil key"];
    const text = String(stored(key));
    if (text === "") return [null, "empty key"];
    if (Buffer.byteLength(text) > 65_535) return [null, "key too long"];
    const [first, second, third] = args.map(stored);
    switch (method) {
      case "get":
        return this.#get(text);
      case "set":
      case "safe_set":
        return this.#store(text, first, second);
      case "add":
        return this.#find(text) ? [false, "exists", false] : this.#store(text, first, second);
      case "replace":
        return this.#find(text) ? this.#store(text, first, second) : [false, "not found", false];
      case "incr":
        return this.#incr(text, first, second, third);
      case "delete":
        this.#entries.delete(text);
        return [true, null];
      case "ttl":
        return this.#ttl(text);
      case "expire":
        return this.#expire(text, first);
      case "lpush":
      case "rpush":
        return this.#push(text, first, method === "lpush");
      case "lpop":
      case "rpop":
        return this.#pop(text, method === "lpop");
      case "llen":
        return this.#length(text);
      default:
        throw new Error(`shared dictionaries have no method ${method}`);
    }
  }

  #find(key: string): Entry | undefined {
    const entry = this.#entries.get(key);
    return entry !== undefined && entry.expires > this.#clock.nowMs ? entry : undefined;
  }

  #put(key: string, value: Entry["value"], ttlSeconds: number): void {
    const expires = ttlSeconds === 0 ? Infinity : this.#clock.nowMs + ttlSeconds * 1000;
    this.#entries.set(key, { value, expires });
  }

  #get(key: string): Results {
    const value = this.#find(key)?.value;
    if (Array.isArray(value)) return [null, "value is a list"];
    return value === undefined ? [null] : [value, null];
  }

  #store(key: string, value: unknown, ttl: unknown): Results {
    const seconds = (ttl as number | null | undefined) ?? 0;
    if (seconds < 0) throw new Error('bad "exptime" argument');
    if (value === null || value === undefined) {
      this.#entries.delete(key);
      return [true, null, false];
    }
    if (typeof value === "object" && !(value instanceof Uint8Array)) {
      return [null, "bad value type"];
    }
    this.#put(key, value as Scalar, seconds);
    return [true, null, false];
  }

  #incr(key: string, by: unknown, init: unknown, ttl: unknown): Results {
    const seconds = (ttl as number | null | undefined) ?? 0;
    if (seconds < 0) throw new Error('bad "init_ttl" argument');
    const entry = this.#find(key);
    if (entry === undefined) {
      if (typeof init !== "number") return [null, "not found"];
      this.#put(key, init + Number(by), seconds);
      return [init + Number(by), null, false];
    }
    if (typeof entry.value !== "number") return [null, "not a number"];
    entry.value += Number(by);
    return [entry.value, null];
  }

  #ttl(key: string): Results {
    const entry = this.#find(key);
    if (entry === undefined) return [null, "not found"];
    return [entry.expires === Infinity ? 0 : (entry.expires - this.#clock.nowMs) / 1000];
  }

  #expire(key: string, ttl: unknown): Results {
    const seconds = Number(ttl);
    if (seconds < 0) throw new Error('bad "exptime" argument');
    const entry = this.#find(key);
    if (entry === undefined) return [null, "not found"];
    this.#put(key, entry.value, seconds);
    return [true];
  }

  #push(key: string, value: unknown, front: boolean): Results {
    const entry = this.#find(key);
    if (entry !== undefined && !Array.isArray(entry.value)) return [null, "value not a list"];
    const list = (entry?.value as ListItem[] | undefined) ?? [];
    if (front) list.unshift(value as ListItem);
    else list.push(value as ListItem);
    if (entry === undefined) this.#put(key, list, 0);
    return [list.length];
  }

  #pop(key: string, front: boolean): Results {
    const entry = this.#find(key);
    if (entry === undefined) return [null];
    if (!Array.isArray(entry.value)) return [null, "value not a list"];
    const value = front ? entry.value.shift() : entry.value.pop();
    if (entry.value.length === 0) this.#entries.delete(key);
    return [value ?? null];
  }

  #length(key: string): Results {
    const value = this.#find(key)?.value;
    if (value === undefined) return [0];
    return Array.isArray(value) ? [value.length] : [null, "value not a list"];
  }
}
