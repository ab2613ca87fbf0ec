/**
 * One request on its way through nginx: the phases in their order, the upstream, the client. What
 * lua/resty/ts/http does in a worker (run.lua, policy.lua, stream.lua) is done here in its order.
 *
 * Invariant: an exchange ends: its log handlers have run and the host was told, whatever came of it.
 */
import type { ChainDescription, PhaseDescription } from "../http/chain.js";
import type { Changes } from "../http/changes.js";
import { HeadFlag } from "../http/head.js";
import { isBeforeAnswer, isBodyPhase, LUA_NAMES, PhaseNumber } from "../http/phases.js";
import type { Phase } from "../sdk/plugin.js";
import { carry } from "../http/carried.js";
import { MARGIN_MS } from "../http/engine.js";
import { apply, type Ending } from "./apply.js";
import { type Calls, codeOf, messageOf } from "./calls.js";
import type { Dict } from "./dict.js";
import { filterFields, valueOf } from "./fields.js";
import type { Pipe } from "./pipe.js";
import { answerAll } from "./questions.js";
import type { RequestState } from "./request-state.js";
import { FlatFieldsReader } from "../http/read-fields.js";
import type {
  Failure,
  LogLine,
  Problem,
  TestConsumer,
  TestResult,
  Upstream,
  UpstreamRequest,
} from "./types.js";
import { askUpstream, makeUpstreamRequest } from "./upstream.js";
import { Whole } from "./whole.js";

const EMPTY = new Uint8Array(0);
const TITLES: Readonly<Record<number, string>> = {
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  413: "Content Too Large",
  415: "Unsupported Media Type",
  422: "Unprocessable Content",
  425: "Too Early",
  429: "Too Many Requests",
  451: "Unavailable For Legal Reasons",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
};
/** nginx's own for a client that has left. */
const CLIENT_CLOSED = 499;

/** What an exchange needs of the kit. */
export interface Setting extends ChainDescription {
  readonly calls: Calls;
  readonly state: RequestState;
  readonly token: number;
  readonly timeoutMs: number;
  readonly defaultType: string;
  readonly dicts: ReadonlyMap<string, Dict>;
  readonly upstream: Upstream | undefined;
  readonly locations: Readonly<Record<string, Upstream>>;
  readonly consumers: readonly TestConsumer[] | undefined;
  /** The chain's. */
  readonly plugins: readonly string[];
  readonly overload: (phase: Phase) => boolean;
  readonly pipe: Pipe;
  /** Told when the response's header is sent, or cannot be any more. */
  readonly onHeader: () => void;
  readonly log: LogLine[];
  readonly errors: Failure[];
  readonly fail: (failure: Failure) => void;
  readonly info: (plugin: string, text: string) => void;
}

const BODY_PHASES = ["bodyFilter", "delayedBodyFilter"] as const;
type BodyPhase = (typeof BODY_PHASES)[number];

/** How far a phase has got with the body. */
interface BodyState {
  started: boolean;
  /** The rest of the body passes as it is. */
  off: boolean;
  readonly collected: Uint8Array[];
}

/** "over": the request is answered, or will not be. */
type Outcome = "go on" | "over";

export class Exchange {
  readonly #setting: Setting;
  readonly #state: RequestState;
  readonly #vars: Readonly<Record<string, string>>;
  /** Of a chain that filters bodies. */
  readonly #whole: Whole | undefined;
  #upstreamRequest: UpstreamRequest | undefined;
  #headerSent = false;
  #cut = false;
  #chunk: Uint8Array = EMPTY;
  readonly #bodies: Readonly<Record<BodyPhase, BodyState>> = {
    bodyFilter: { started: false, off: false, collected: [] },
    delayedBodyFilter: { started: false, off: false, collected: [] },
  };
  #testFailure: { readonly error: unknown } | undefined;

  constructor(setting: Setting, vars: Readonly<Record<string, string>>) {
    this.#setting = setting;
    this.#state = setting.state;
    this.#vars = vars;
    if (BODY_PHASES.some((phase) => this.#described(phase) !== undefined)) {
      this.#whole = new Whole(this.#state);
    }
  }

  get status(): number {
    return this.#headerSent ? this.#state.status : 0;
  }

  /** Cuts the connection. nginx holds the header back until there is some of the body. */
  #cutOff(): void {
    this.#cut = true;
    if (this.#setting.pipe.pieces.length === 0) this.#headerSent = false;
  }

  /** The response's fields. */
  fields(): FlatFieldsReader {
    return new FlatFieldsReader(this.#headerSent ? this.#state.responseFields : []);
  }

  /** @throws what the test's own upstream or locations threw. */
  async play(): Promise<TestResult> {
    const { pipe, onHeader, calls } = this.#setting;
    try {
      await this.#play();
    } catch (error) {
      this.#testFailure ??= { error };
    }
    if (calls.gone !== undefined) this.#left();
    await this.#log();
    calls.engine.ended([this.#state.id]);
    this.#state.dispose();
    onHeader();
    pipe.end();
    if (this.#testFailure !== undefined) throw this.#testFailure.error;
    return this.#result();
  }

  async #play(): Promise<void> {
    const { phases } = this.#setting;
    this.#whole?.ask();
    if ((await this.#requestPhase("rewrite")) === "over") return;
    if ((await this.#requestPhase("access")) === "over") return;
    if ((await this.#requestPhase("beforeProxy")) === "over") return;
    if (phases["content"] === undefined) {
      await this.#proxy();
    } else if ((await this.#requestPhase("content")) === "go on") {
      this.#state.status ||= 200;
      await this.#send([]);
    }
  }

  #left(): void {
    this.#cut = true;
    if (!this.#headerSent) this.#state.status = CLIENT_CLOSED;
  }

  // Phases ------------------------------------------------------------------------------------

  async #requestPhase(phase: Phase): Promise<Outcome> {
    return (await this.#cross(phase, 0, null)) === "over" || this.#over ? "over" : "go on";
  }

  get #over(): boolean {
    return this.#cut || this.#setting.calls.gone !== undefined;
  }

  #described(phase: Phase): PhaseDescription | undefined {
    return this.#setting.phases[LUA_NAMES[phase]];
  }

  /** One message and what comes of it. "over": the request is, or the phase failed in a filter. */
  async #cross(phase: Phase, flags: number, chunk: Uint8Array | null): Promise<Outcome> {
    const p = this.#described(phase);
    if (p === undefined) return "go on";
    const { calls, token, overload } = this.#setting;
    if (overload(phase)) return this.#failed(phase, p, "queue full", p.on_overload);
    const waits = isBeforeAnswer(PhaseNumber[phase]);
    // What cannot wait cannot be interrupted here: a debugger's break is no timeout.
    const ms = (p.timeout_ms ?? (waits ? this.#setting.timeoutMs : 86_400_000)) + MARGIN_MS;
    const head = this.#state.head(PhaseNumber[phase], token, flags);
    const deadline = Date.now() + ms;
    this.#state.endJournal();
    try {
      const { vars, ctx } = this.#needs(p, flags);
      let changes = await calls.run(phase, ms, (caller) =>
        calls.engine.run(head, vars, ctx, chunk, caller),
      );
      for (;;) {
        const ending = this.#apply(phase, changes);
        if (ending === undefined) return "go on";
        if (ending.kind !== "ask") return await this.#finish(phase, ending);
        changes = await this.#resume(phase, ending, deadline);
      }
    } catch (error) {
      if (this.#over) return "over";
      this.#state.undo();
      const code = codeOf(error);
      const text = code === "timeout" ? `timeout: ${messageOf(error)}` : messageOf(error);
      return this.#failed(phase, p, text, code === "timeout" ? p.on_timeout : p.on_error);
    }
  }

  #needs(
    p: PhaseDescription,
    flags: number,
  ): { vars: (Uint8Array | null)[] | null; ctx: Record<string, unknown> | null } {
    if ((flags & HeadFlag.continues) !== 0) return { vars: null, ctx: null };
    const vars = p.vars.map((name) => {
      const value = this.#state.variable(name);
      return value === undefined ? null : new Uint8Array(Buffer.from(value, "latin1"));
    });
    const ctx: Record<string, unknown> = {};
    for (const key of new Set([...p.ctx, ...this.#state.ctxKeys])) {
      if (this.#state.ctx[key] !== undefined) ctx[key] = carry(this.#state.ctx[key]);
    }
    return { vars, ctx };
  }

  #apply(phase: Phase, changes: Changes): Ending | undefined {
    return apply(this.#state, changes ?? [], {
      chunk: (bytes) => (this.#chunk = bytes),
      passed: (plugin, text) => {
        this.#setting.fail({ plugin, phase, status: 0, text });
      },
    });
  }

  async #resume(
    phase: Phase,
    { run, asked, refused }: Ending & { kind: "ask" },
    deadline: number,
  ): Promise<Changes> {
    const { calls } = this.#setting;
    const replies = refused ?? (await this.#answers(asked));
    return calls.run(phase, Math.max(1, deadline - Date.now()), (caller) =>
      calls.engine.resume(run, replies, caller),
    );
  }

  #answers(asked: readonly unknown[][]): ReturnType<typeof answerAll> {
    const { dicts, locations, consumers, plugins } = this.#setting;
    return answerAll(
      {
        state: this.#state,
        dicts,
        locations,
        consumers,
        plugins,
        failTest: (error) => (this.#testFailure ??= { error }),
      },
      asked,
    );
  }

  async #finish(phase: Phase, ending: Exclude<Ending, { kind: "ask" }>): Promise<Outcome> {
    if (ending.kind === "failed") {
      const { plugin, status, text } = ending;
      this.#setting.fail({ plugin, phase, status, text });
      return this.#refuse(phase, status);
    }
    if (ending.kind === "refused") {
      this.#setting.info(ending.plugin, ending.text);
      return this.#refuse(phase, ending.status);
    }
    if (ending.kind === "exit") await this.#answer(ending.status, ending.body);
    else await this.#stream(phase, ending);
    return "over";
  }

  #failed(
    phase: Phase,
    { plugins }: PhaseDescription,
    text: string,
    status: number,
  ): Promise<Outcome> {
    this.#setting.fail({ plugin: plugins, phase, status, text });
    return this.#refuse(phase, status);
  }

  /** Does what a policy's status says. */
  async #refuse(phase: Phase, status: number): Promise<Outcome> {
    const before = isBeforeAnswer(PhaseNumber[phase]);
    const isClosed = isBodyPhase(PhaseNumber[phase]) && this.#whole!.isClosed;
    if (status === 0 && !isClosed) return before ? "go on" : "over";
    if (!before) {
      this.#cutOff();
      return "over";
    }
    this.#state.setResponseField("Content-Type", ["application/problem+json"]);
    this.#state.setResponseField("Content-Encoding", []);
    const problem = {
      type: "about:blank",
      title: TITLES[status] ?? "Error",
      status,
      request_id: this.#state.requestId,
    };
    await this.#answer(status, new TextEncoder().encode(JSON.stringify(problem)));
    return "over";
  }

  // Answers -----------------------------------------------------------------------------------

  async #answer(status: number, body: Uint8Array | null): Promise<void> {
    this.#state.answering();
    this.#state.status = status;
    if (mayHaveBody(status) && (body !== null || this.#state.method !== "HEAD")) {
      this.#state.setResponseField("Content-Length", [String(body?.length ?? 0)]);
    }
    await this.#send([body ?? EMPTY]);
  }

  async #stream(phase: Phase, stream: Ending & { kind: "stream" }): Promise<void> {
    const { calls } = this.#setting;
    const { id, status, chunk } = stream;
    this.#state.answering();
    this.#state.status = status;
    const pieces = async function* (): AsyncGenerator<Uint8Array> {
      yield chunk;
      for (;;) {
        const piece = await calls.run<Uint8Array | null>(phase, undefined, (caller) =>
          calls.engine.pull(id, caller),
        );
        if (piece === null) return;
        yield piece;
      }
    };
    try {
      await this.#send(pieces());
    } catch (error) {
      this.#cut = true;
      if (calls.gone !== undefined) return;
      const { plugins } = this.#described(phase)!;
      const text = `the answer's stream broke off: ${messageOf(error)}`;
      this.#setting.fail({ plugin: plugins, phase, status: 0, text });
    }
  }

  async #proxy(): Promise<void> {
    const { method, uri, fields, body } = this.#state.proxied();
    this.#upstreamRequest = makeUpstreamRequest(method, uri, fields, body);
    const answer = await askUpstream(this.#setting.upstream, this.#upstreamRequest);
    this.#state.status = answer.status;
    this.#state.addUpstreamFields(answer.fields);
    await this.#send(answer.pieces);
  }

  // The way out -------------------------------------------------------------------------------

  async #send(pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>): Promise<void> {
    if (!(await this.#sendHeader())) return;
    const { status, method } = this.#state;
    // nginx's header_only: no body, and no body filter.
    if (method === "HEAD" || !mayHaveBody(status)) return;
    for await (const piece of pieces) {
      if (!(await this.#filter(piece, false))) return;
    }
    await this.#filter(EMPTY, true);
  }

  /** @returns whether there is a response to go on with. */
  async #sendHeader(): Promise<boolean> {
    const state = this.#state;
    if (!this.#upstreamRequest) state.notModified();
    const typed = valueOf(state.responseFields, "content-type") !== undefined;
    if (!typed && !this.#upstreamRequest && mayHaveBody(state.status)) {
      state.setResponseField("Content-Type", [this.#setting.defaultType]);
    }
    state.override();
    this.#whole?.begin();
    this.#apply("headerFilter", [...(this.#setting.fields ?? [])]);
    await this.#cross("headerFilter", 0, null);
    if (this.#over) return false;
    this.#whole?.finish();
    if (state.status === 204) {
      state.responseFields = filterFields(
        state.responseFields,
        (lower) => lower !== "content-type" && lower !== "content-length",
      );
    }
    this.#headerSent = true;
    this.#setting.onHeader();
    return true;
  }

  /** @returns whether to go on. */
  async #filter(chunk: Uint8Array, last: boolean): Promise<boolean> {
    this.#chunk = chunk;
    for (const phase of BODY_PHASES) {
      await this.#filterIn(phase, last);
      if (this.#over) return false;
    }
    return this.#setting.pipe.write(this.#chunk);
  }

  async #filterIn(phase: BodyPhase, last: boolean): Promise<void> {
    const p = this.#described(phase);
    const body = this.#bodies[phase];
    if (p === undefined || body.off || (this.#chunk.length === 0 && !last)) return;
    let pieces = [this.#chunk];
    let isLonger = false;
    if (p.buffer_bytes !== null && !body.started) {
      const { collected } = body;
      collected.push(this.#chunk);
      const whole = new Uint8Array(Buffer.concat(collected));
      isLonger = whole.length > p.buffer_bytes;
      this.#chunk = EMPTY;
      if (!last && !isLonger) return;
      // A longer one goes on piece by piece.
      pieces = isLonger ? collected.splice(0) : [whole];
    }
    const filtered: Uint8Array[] = [];
    for (const [i, piece] of pieces.entries()) {
      this.#chunk = piece;
      await this.#filterPiece(phase, last && i === pieces.length - 1, isLonger);
      if (this.#over) return;
      filtered.push(this.#chunk);
    }
    this.#chunk = new Uint8Array(Buffer.concat(filtered));
  }

  async #filterPiece(phase: BodyPhase, last: boolean, isLonger: boolean): Promise<void> {
    const body = this.#bodies[phase];
    if (body.off) return;
    const flags =
      (last ? HeadFlag.last : 0) |
      (body.started ? HeadFlag.continues : isLonger ? HeadFlag.unbuffered : 0) |
      (this.#whole!.isClosed ? HeadFlag.closed : 0);
    body.started = true;
    const outcome = await this.#cross(phase, flags, this.#chunk.slice());
    // A filter that misses a piece makes no sense of the rest.
    if (outcome === "over") body.off = true;
  }

  // The end -----------------------------------------------------------------------------------

  async #log(): Promise<void> {
    const p = this.#described("log");
    if (p === undefined) return;
    const { calls, token } = this.#setting;
    calls.count("log");
    const { vars, ctx } = this.#needs(p, 0);
    await calls.engine.log([[this.#state.head(PhaseNumber.log, token, 0), vars, ctx, Date.now()]]);
  }

  #result(): TestResult {
    const { pipe, calls, log, errors } = this.#setting;
    const body = new Uint8Array(Buffer.concat(pipe.pieces));
    const headers = this.fields();
    const text = (): string => new TextDecoder().decode(body);
    const json = <T>(): T => JSON.parse(text()) as T;
    const isProblem = headers.get("content-type") === "application/problem+json";
    const vars = Object.keys(this.#vars).map((name) => {
      const value = this.#state.variable(name);
      return [name, value && Buffer.from(value, "latin1").toString("utf8")];
    });
    return {
      response: {
        status: this.status,
        headers,
        body,
        chunks: pipe.pieces,
        cut: this.#cut,
        problem: isProblem ? problemOf(text()) : undefined,
        text,
        json,
      },
      upstreamRequest: this.#upstreamRequest,
      upstreamAddress: this.#state.upstreamAddress,
      consumer: this.#state.consumer,
      ctx: this.#state.ctx,
      vars: Object.fromEntries(vars) as TestResult["vars"],
      log,
      errors,
      crossings: { ...calls.counts },
    };
  }
}

function mayHaveBody(status: number): boolean {
  return status !== 204 && status !== 304;
}

/** A body filter may have made something else of it. */
function problemOf(text: string): Problem | undefined {
  try {
    return JSON.parse(text) as Problem;
  } catch {
    return undefined;
  }
}
