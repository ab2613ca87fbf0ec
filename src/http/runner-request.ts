/**
 * The request as plugins of the community's JavaScript runner know it. Where that keeps one value of
 * a name, this keeps all, in their order and spelling; a name's value is text.
 */
import { isIPv4, isIPv6 } from "node:net";
import type { HeaderFields, RequestContext } from "../sdk/http.js";

/** A body is taken into memory up to this size; nginx's client_max_body_size bounds it, too. */
const MAX_BODY_BYTES = 67_108_864;

/** What headers and args have in common with Map. */
abstract class TextMap implements Iterable<[string, string]> {
  abstract getAll(name: string): string[];
  abstract set(name: string, value: unknown): this;
  abstract append(name: string, value: unknown): this;
  abstract delete(name: string): boolean;
  /** Each name once. */
  protected abstract names(): string[];
  /** All values of a name as one. */
  abstract get(name: string): string | undefined;

  has(name: string): boolean {
    return this.get(name) !== undefined;
  }

  get size(): number {
    return this.names().length;
  }

  keys(): IterableIterator<string> {
    return this.names()[Symbol.iterator]();
  }

  values(): IterableIterator<string> {
    const values = this.names().map((name) => this.get(name)!);
    return values[Symbol.iterator]();
  }

  entries(): IterableIterator<[string, string]> {
    const entries = this.names().map((name): [string, string] => [name, this.get(name)!]);
    return entries[Symbol.iterator]();
  }

  [Symbol.iterator](): IterableIterator<[string, string]> {
    return this.entries();
  }

  forEach(visit: (value: string, name: string, map: this) => void): void {
    for (const [name, value] of this.entries()) visit(value, name, this);
  }

  clear(): void {
    for (const name of this.names()) this.delete(name);
  }
}

/** A byte string as the text whose UTF-8 it is. */
function textOf(bytes: string): string {
  return Buffer.from(bytes, "latin1").toString("utf8");
}

function bytesOf(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

export class RunnerHeaders extends TextMap {
  readonly #fields: HeaderFields;

  constructor(fields: HeaderFields) {
    super();
    this.#fields = fields;
  }

  protected names(): string[] {
    return [...new Set([...this.#fields].map(([name]) => name.toLowerCase()))];
  }

  /** Joined as Fetch does it. */
  get(name: string): string | undefined {
    const values = this.getAll(name);
    if (values.length === 0) return undefined;
    return values.join(name.toLowerCase() === "cookie" ? "; " : ", ");
  }

  getAll(name: string): string[] {
    return this.#fields.getAll(name).map(textOf);
  }

  set(name: string, value: unknown): this {
    const values: unknown[] = Array.isArray(value) ? value : [value];
    this.#fields.set(
      name,
      values.map((item) => bytesOf(String(item))),
    );
    return this;
  }

  append(name: string, value: unknown): this {
    this.#fields.append(name, bytesOf(String(value)));
    return this;
  }

  delete(name: string): boolean {
    const had = this.#fields.has(name);
    this.#fields.delete(name);
    return had;
  }
}

interface Argument {
  readonly name: string;
  readonly value: string;
  /** As the query has it. */
  readonly raw: string;
}

function decoded(raw: string): string {
  const bytes = raw
    .replaceAll("+", " ")
    .replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(parseInt(hex, 16)));
  return textOf(bytes);
}

function argumentOf(raw: string): Argument {
  const [name = "", value = ""] = raw.split(/=(.*)/s, 2);
  return { name: decoded(name), value: decoded(value), raw };
}

function newArgument(name: string, value: unknown): Argument {
  const text = String(value);
  const raw = `${encodeURIComponent(name)}=${encodeURIComponent(text)}`;
  return { name, value: text, raw };
}

export class RunnerArgs extends TextMap {
  #list: Argument[];
  changed = false;

  /** @param query without "?"; undefined: none. */
  constructor(query: string | undefined) {
    super();
    this.#list = (query ?? "")
      .split("&")
      .filter((raw) => raw !== "")
      .map(argumentOf);
  }

  protected names(): string[] {
    return [...new Set(this.#list.map(({ name }) => name))];
  }

  /** The last of the name, which is the one that the runner has. "" for one without "=". */
  get(name: string): string | undefined {
    return this.getAll(name).at(-1);
  }

  getAll(name: string): string[] {
    return this.#list.filter((one) => one.name === name).map(({ value }) => value);
  }

  set(name: string, value: unknown): this {
    const values: unknown[] = Array.isArray(value) ? value : [value];
    const made = values.map((item) => newArgument(name, item));
    const at = this.#list.findIndex((one) => one.name === name);
    const others = this.#list.filter((one) => one.name !== name);
    others.splice(at < 0 ? others.length : at, 0, ...made);
    this.#list = others;
    this.changed = true;
    return this;
  }

  append(name: string, value: unknown): this {
    this.#list.push(newArgument(name, value));
    this.changed = true;
    return this;
  }

  delete(name: string): boolean {
    const before = this.#list.length;
    this.#list = this.#list.filter((one) => one.name !== name);
    if (this.#list.length === before) return false;
    this.changed = true;
    return true;
  }

  /** The query; those that were not touched as they came. */
  override toString(): string {
    return this.#list.map(({ raw }) => raw).join("&");
  }
}

/** What has a meaning of its own in a path, and stays escaped in its text: "/", "?", "#", "%". */
const KEPT = /^(?:2F|3F|23|25)$/i;

/** A raw path as text in which escapes are left only where they mean something. */
export function pathText(raw: string): string {
  const bytes = raw.replace(/%([0-9a-fA-F]{2})/g, (escape, hex: string) =>
    KEPT.test(hex) ? escape : String.fromCharCode(parseInt(hex, 16)),
  );
  return textOf(bytes);
}

/** The other way round. */
export function rawPath(text: string): string {
  return bytesOf(text)
    .replace(/%(?![0-9a-fA-F]{2})/g, "%25")
    .replace(
      /[^A-Za-z0-9\-._~!$&'()*+,;=:@/%]/g,
      (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
    );
}

/** The bytes of an address; none for a unix socket's. */
export function addressBytes(address: string): number[] {
  if (isIPv4(address)) return address.split(".").map(Number);
  if (!isIPv6(address)) return [];
  // "::ffff:1.2.3.4" ends in an IPv4 address, and any may have a zone.
  const plain = address
    .replace(/%.*$/, "")
    .replace(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/, (_, ...parts: string[]) => {
      const [a, b, c, d] = parts.slice(0, 4).map(Number) as [number, number, number, number];
      return `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
    });
  const [before = "", after] = plain.split("::", 2);
  const groups = (part: string): string[] => (part === "" ? [] : part.split(":"));
  const front = groups(before);
  const back = groups(after ?? "");
  const zeros = Array.from({ length: 8 - front.length - back.length }, () => "0");
  return [...front, ...zeros, ...back].flatMap((group) => {
    const value = parseInt(group, 16);
    return [value >> 8, value & 255];
  });
}

let lastId = 0;

export class RunnerRequest {
  /** For messages: the filters that ran before. */
  readonly id = (lastId = (lastId + 1) % 0x1_0000_0000);
  readonly headers: RunnerHeaders;
  readonly args: RunnerArgs;
  /** Of the client's address. */
  readonly srcIp: number[];
  readonly #ctx: RequestContext;
  readonly #rawPath: string;
  #path: string | undefined = undefined;

  constructor(ctx: RequestContext) {
    const { request } = ctx;
    const [path = "", query] = bytesOf(request.uri).split(/\?(.*)/s, 2);
    this.#ctx = ctx;
    this.#rawPath = path;
    this.headers = new RunnerHeaders(request.headers);
    this.args = new RunnerArgs(query);
    this.srcIp = addressBytes(request.remoteAddress);
  }

  /** Text: what is escaped is "/", "?", "#" or "%". */
  get path(): string {
    return this.#path ?? pathText(this.#rawPath);
  }

  set path(path: string) {
    this.#path = path;
  }

  get method(): string {
    return this.#ctx.request.method;
  }

  set method(method: string) {
    this.#ctx.request.method = method;
  }

  /** The body as text; bytes that are not UTF-8 are U+FFFD, as in the runner. */
  async body(): Promise<string> {
    return new TextDecoder().decode(await this.bodyBytes());
  }

  /** The body as it is. */
  bodyBytes(): Promise<Uint8Array> {
    return this.#ctx.request.bytes(MAX_BODY_BYTES);
  }

  /** Has path and arguments changed; the fields and the method are. */
  apply(): void {
    if (this.#path === undefined && !this.args.changed) return;
    const path = this.#path === undefined ? this.#rawPath : rawPath(String(this.#path));
    const query = this.args.toString();
    this.#ctx.request.uri = textOf(query === "" ? path : `${path}?${query}`);
  }
}
