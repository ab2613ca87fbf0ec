/** `ctx` of a handler: a thin face of its draft. */
import type { ApisixRequest } from "../sdk/apisix.js";
import type { Log } from "../sdk/context.js";
import type {
  BodyFilterContext,
  Exit,
  HttpRequestWithBody,
  HttpResponse,
  LogContext,
  RequestContext,
  SharedDict,
  SubrequestOptions,
  SubrequestResult,
  Variables,
} from "../sdk/http.js";
import { ApisixRequestImpl } from "./apisix.js";
import { Change, fromWire } from "./changes.js";
import type { Draft } from "./draft.js";
import { HeadFlag } from "./head.js";
import { FlatFieldsReader } from "./read-fields.js";
import { SharedDictImpl } from "./shared.js";
import { bytesOf, textOf } from "./text.js";
import { checkPort, checkUpstreamHost } from "./validate.js";

const EXITED: Exit = Object.freeze({ exited: true });
const VARIABLE_NAME = /^[A-Za-z0-9_]+$/;

export class PhaseContext implements RequestContext, BodyFilterContext, LogContext {
  private readonly draft: Draft;
  private variables: Variables | undefined = undefined;
  private apisixMade: ApisixRequest | undefined = undefined;

  constructor(draft: Draft) {
    this.draft = draft;
  }

  get request(): HttpRequestWithBody {
    return this.draft.request;
  }

  get response(): HttpResponse {
    return this.draft.response;
  }

  get ctx(): Record<string, unknown> {
    return this.draft.ctx;
  }

  get local(): Map<unknown, unknown> {
    return this.draft.run.local;
  }

  get vars(): Readonly<Record<string, string | undefined>> {
    return this.draft.vars;
  }

  get log(): Log {
    return this.draft.handler.instance.log;
  }

  get chunk(): Uint8Array {
    return this.draft.run.chunk;
  }

  get last(): boolean {
    return this.draft.run.last;
  }

  get endTime(): number {
    return this.draft.run.endTime;
  }

  get signal(): AbortSignal {
    return this.draft.signal;
  }

  get apisix(): ApisixRequest | undefined {
    if ((this.draft.head.flags & HeadFlag.apisix) === 0) return undefined;
    return (this.apisixMade ??= new ApisixRequestImpl(this.draft));
  }

  get var(): Variables {
    return (this.variables ??= new VariablesImpl(this.draft));
  }

  shared(name: string): SharedDict {
    return new SharedDictImpl((...words) => this.draft.run.askShared(this.draft, words), name);
  }

  async subrequest(uri: string, options: SubrequestOptions = {}): Promise<SubrequestResult> {
    const { method = "GET", args, body } = options;
    const [status, headers, received] = await this.draft.ask("subrequest", uri, {
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
    this.draft.run.mustWait("ctx.setUpstream");
    const unix = host.startsWith("unix:");
    const isApisix = (this.draft.head.flags & HeadFlag.apisix) !== 0;
    this.draft.change(
      Change.upstream,
      unix ? host : checkUpstreamHost(host, isApisix),
      unix ? null : checkPort(port),
    );
  }

  exit(status: number, body?: string | Uint8Array | object): Exit {
    this.draft.run.mustWait("ctx.exit");
    this.draft.exit(status, body);
    return EXITED;
  }

  waitUntil(work: Promise<unknown>): void {
    this.draft.run.track(work, this.draft.handler.title);
  }
}

class VariablesImpl implements Variables {
  readonly #draft: Draft;

  constructor(draft: Draft) {
    this.#draft = draft;
  }

  async get(name: string): Promise<string | undefined> {
    if (!VARIABLE_NAME.test(name)) throw new TypeError(`$${name} is no nginx variable's name`);
    const set = this.#draft.varsSoFar();
    if (set?.has(name)) return set.get(name);
    const { run } = this.#draft;
    if (run.chain.vars.includes(name)) return run.vars[name];
    const [value] = await this.#draft.ask("var", name);
    return textOf(value);
  }

  set(name: string, value: string | number | null): void {
    this.#draft.run.mustWait("ctx.var.set");
    if (!VARIABLE_NAME.test(name)) throw new TypeError(`$${name} is no nginx variable's name`);
    this.#draft.setVariable(name, value === null ? null : String(value));
  }
}
