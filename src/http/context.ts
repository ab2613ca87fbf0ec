/**
 * `ctx` of a handler: a thin face of the run, one for each handler, so that its log lines and its
 * signal are its own.
 */
import { RestyTsError } from "../sdk/errors.js";
import type { Log } from "../sdk/context.js";
import type {
  BodyFilterContext,
  Exit,
  HttpRequestWithBody,
  HttpResponse,
  RequestContext,
  SharedDict,
  SubrequestOptions,
  SubrequestResult,
  Variables,
} from "../sdk/http.js";
import { Change } from "./changes.js";
import type { Handler } from "./chain.js";
import type { Run } from "./run.js";

const EXITED: Exit = Object.freeze({ exited: true });
const VARIABLE_NAME = /^[A-Za-z0-9_]+$/;

export class PhaseContext implements RequestContext, BodyFilterContext {
  private readonly run: Run;
  private readonly handler: Handler;
  private controller: AbortController | undefined = undefined;
  private variables: Variables | undefined = undefined;

  constructor(run: Run, handler: Handler) {
    this.run = run;
    this.handler = handler;
  }

  get request(): HttpRequestWithBody {
    return this.run.request;
  }

  get response(): HttpResponse {
    return this.run.response;
  }

  get ctx(): Record<string, unknown> {
    return this.run.ctx;
  }

  get local(): Map<unknown, unknown> {
    return this.run.local;
  }

  get vars(): Readonly<Record<string, string | undefined>> {
    return this.run.vars;
  }

  get log(): Log {
    return this.handler.instance.log;
  }

  get chunk(): Uint8Array {
    return this.run.chunk;
  }

  get last(): boolean {
    return this.run.last;
  }

  get signal(): AbortSignal {
    if (this.controller === undefined) {
      this.controller = new AbortController();
      this.run.addController(this.controller);
    }
    return this.controller.signal;
  }

  /** The handler's own deadline has passed. */
  abort(reason: RestyTsError): void {
    this.controller?.abort(reason);
  }

  get var(): Variables {
    return (this.variables ??= new VariablesImpl(this.run));
  }

  shared(name: string): SharedDict {
    this.run.mustWait("ctx.shared");
    return new SharedDictImpl(this.run, name);
  }

  async subrequest(uri: string, options: SubrequestOptions = {}): Promise<SubrequestResult> {
    const { method = "GET", args, body } = options;
    const [status, headers, received] = await this.run.ask("subrequest", uri, {
      method,
      args,
      body: typeof body === "string" ? new TextEncoder().encode(body) : body,
    });
    return {
      status: status as number,
      headers: headers as Record<string, string>,
      body: received as Uint8Array,
    };
  }

  setUpstream(host: string, port?: number): void {
    this.run.mustWait("ctx.setUpstream");
    const unix = host.startsWith("unix:");
    if (!unix && (!Number.isInteger(port) || port! < 1 || port! > 65_535)) {
      throw new RestyTsError("bad_response", `${String(port)} is no port of an upstream`);
    }
    this.run.change(Change.upstream, host, unix ? null : port);
  }

  exit(status: number, body?: string | Uint8Array | object): Exit {
    this.run.mustWait("ctx.exit");
    this.run.exit(status, body);
    return EXITED;
  }

  waitUntil(work: Promise<unknown>): void {
    this.run.services.track(work, this.handler.title);
  }
}

class VariablesImpl implements Variables {
  readonly #run: Run;
  readonly #set = new Map<string, string | undefined>();

  constructor(run: Run) {
    this.#run = run;
  }

  async get(name: string): Promise<string | undefined> {
    if (!VARIABLE_NAME.test(name)) throw new TypeError(`$${name} is no nginx variable's name`);
    if (this.#set.has(name)) return this.#set.get(name);
    if (this.#run.chain.vars.includes(name)) return this.#run.vars[name];
    const [value] = await this.#run.ask("var", name);
    return textOf(value);
  }

  set(name: string, value: string | number | null): void {
    this.#run.mustWait("ctx.var.set");
    if (!VARIABLE_NAME.test(name)) throw new TypeError(`$${name} is no nginx variable's name`);
    const text = value === null ? null : String(value);
    this.#set.set(name, text ?? undefined);
    this.#run.change(Change.variable, name, text);
  }
}

const utf8 = new TextDecoder();

/** A variable's value as text; bytes that are no UTF-8 are U+FFFD. */
export function textOf(value: unknown): string | undefined {
  if (value === null || value === undefined) return undefined;
  if (value instanceof Uint8Array) return utf8.decode(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

type Stored = string | number | boolean;

class SharedDictImpl implements SharedDict {
  readonly #run: Run;
  readonly #name: string;

  constructor(run: Run, name: string) {
    this.#run = run;
    this.#name = name;
  }

  async #do(method: string, key: string, ...args: unknown[]): Promise<unknown[]> {
    return this.#run.ask("shared", this.#name, method, key, ...args);
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
