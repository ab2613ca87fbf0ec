/**
 * `ctx` of a handler: a thin face of the run, one for each handler, so that its log lines and its
 * signal are its own.
 */
import { type RestyTsError } from "../sdk/errors.js";
import type { ApisixRequest } from "../sdk/apisix.js";
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
import { ApisixRequestImpl } from "./apisix.js";
import { Change, fromWire } from "./changes.js";
import type { Handler } from "./chain.js";
import { HeadFlag } from "./head.js";
import { FlatFieldsReader } from "./read-fields.js";
import type { Run } from "./run.js";
import { SharedDictImpl } from "./shared.js";
import { bytesOf, textOf } from "./text.js";
import { checkPort, checkUpstreamHost } from "./validate.js";

const EXITED: Exit = Object.freeze({ exited: true });
const VARIABLE_NAME = /^[A-Za-z0-9_]+$/;

export class PhaseContext implements RequestContext, BodyFilterContext {
  private readonly run: Run;
  private readonly handler: Handler;
  private controller: AbortController | undefined = undefined;
  private variables: Variables | undefined = undefined;
  private apisixMade: ApisixRequest | undefined = undefined;

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

  get apisix(): ApisixRequest | undefined {
    if ((this.run.head.flags & HeadFlag.apisix) === 0) return undefined;
    return (this.apisixMade ??= new ApisixRequestImpl(this.run));
  }

  get var(): Variables {
    return (this.variables ??= new VariablesImpl(this.run));
  }

  shared(name: string): SharedDict {
    return new SharedDictImpl((...words) => this.run.askShared(words), name);
  }

  async subrequest(uri: string, options: SubrequestOptions = {}): Promise<SubrequestResult> {
    const { method = "GET", args, body } = options;
    const [status, headers, received] = await this.run.ask("subrequest", uri, {
      method,
      args,
      body: typeof body === "string" ? bytesOf(body) : body,
    });
    return {
      status: status as number,
      headers: new FlatFieldsReader((headers as (string | Uint8Array)[]).map(fromWire)),
      body: received as Uint8Array,
    };
  }

  setUpstream(host: string, port?: number): void {
    this.run.mustWait("ctx.setUpstream");
    const unix = host.startsWith("unix:");
    const isApisix = (this.run.head.flags & HeadFlag.apisix) !== 0;
    this.run.change(
      Change.upstream,
      unix ? host : checkUpstreamHost(host, isApisix),
      unix ? null : checkPort(port),
    );
  }

  exit(status: number, body?: string | Uint8Array | object): Exit {
    this.run.mustWait("ctx.exit");
    this.run.exit(status, body);
    return EXITED;
  }

  waitUntil(work: Promise<unknown>): void {
    this.run.services.track(work, this.handler.title, this.run.chain);
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
