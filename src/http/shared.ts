/** A shared dictionary of nginx's: each method is a question to Lua (docs/http-protocol.md). */
import { RestyTsError } from "../sdk/errors.js";
import type { SharedDict } from "../sdk/http.js";
import { textOf } from "./text.js";

/** Asks Lua; resolves with the reply's values. */
export type Ask = (...words: unknown[]) => Promise<unknown[]>;

type Stored = string | number | boolean;

export class SharedDictImpl implements SharedDict {
  readonly #ask: Ask;
  readonly #name: string;

  constructor(ask: Ask, name: string) {
    this.#ask = ask;
    this.#name = name;
  }

  async #do(method: string, key: string, ...args: unknown[]): Promise<unknown[]> {
    return this.#ask("shared", this.#name, method, key, ...args);
  }

  #fail(method: string, key: string, why: unknown): never {
    throw new RestyTsError(
      "handler_failed",
      `shared dictionary ${this.#name}, ${method} ${JSON.stringify(key)}: ${textOf(why) ?? "failed"}`,
    );
  }

  /** The first result, where null means that there is nothing unless there is an error. */
  async #value(method: string, key: string, ...args: unknown[]): Promise<unknown> {
    const [value, why] = await this.#do(method, key, ...args);
    if (value === null && why !== null && why !== undefined) this.#fail(method, key, why);
    return value instanceof Uint8Array ? Buffer.from(value).toString("latin1") : value;
  }

  async get(key: string): Promise<Stored | null> {
    return ((await this.#value("get", key)) as Stored | null | undefined) ?? null;
  }

  async set(key: string, value: Stored, ttlSeconds = 0): Promise<void> {
    const [ok, why] = await this.#do("set", key, value, ttlSeconds);
    if (ok !== true) this.#fail("set", key, why);
  }

  async add(key: string, value: Stored, ttlSeconds = 0): Promise<boolean> {
    const [ok, why] = await this.#do("add", key, value, ttlSeconds);
    if (ok !== true && why !== "exists") this.#fail("add", key, why);
    return ok === true;
  }

  async incr(key: string, by: number, initial?: number, initialTtlSeconds = 0): Promise<number> {
    const args = initial === undefined ? [by] : [by, initial, initialTtlSeconds];
    return (await this.#value("incr", key, ...args)) as number;
  }

  async delete(key: string): Promise<void> {
    await this.#do("delete", key);
  }

  async ttl(key: string): Promise<number | null> {
    const [value, why] = await this.#do("ttl", key);
    if (value === null && why !== "not found") this.#fail("ttl", key, why);
    return value as number | null;
  }

  async lpush(key: string, value: string | number): Promise<number> {
    return (await this.#value("lpush", key, value)) as number;
  }

  async rpush(key: string, value: string | number): Promise<number> {
    return (await this.#value("rpush", key, value)) as number;
  }

  async lpop(key: string): Promise<string | number | null> {
    return ((await this.#value("lpop", key)) as string | number | null | undefined) ?? null;
  }

  async rpop(key: string): Promise<string | number | null> {
    return ((await this.#value("rpop", key)) as string | number | null | undefined) ?? null;
  }

  async llen(key: string): Promise<number> {
    return (await this.#value("llen", key)) as number;
  }
}
