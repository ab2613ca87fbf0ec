/**
 * One phase of one request: its handlers in their order, what they change, what they ask of Lua.
 *
 * Thread: the environment's own. Invariant: Lua waits in one call at a time, and each is answered
 * once: with the changes so far and questions, or with the last changes. What a plugin with an open
 * policy had changed before it failed is not among them, unless a question has carried it over.
 */
import { RestyTsError } from "../sdk/errors.js";
import { BodyMismatch, BodyRules } from "./body-rules.js";
import { type Chain, type Handler } from "./chain.js";
import { Change, type Changes } from "./changes.js";
import { clientStatus } from "./client-error.js";
import { PhaseContext } from "./context.js";
import { type Head, HeadFlag } from "./head.js";
import { FIXED_REQUEST, FIXED_RESPONSE, isBeforeAnswer, isBodyPhase } from "./phases.js";
import { type Question, settle } from "./questions.js";
import { RequestImpl } from "./request.js";
import { isResponse, ResponseImpl, takeApart } from "./response.js";
import { bodyRunKey, type RequestState, type RunInput, type Services } from "./services.js";
import { bytesOf, textOf } from "./text.js";
import { checkBodyAllowed, checkStatus } from "./validate.js";

const EMPTY = new Uint8Array(0);
/** Lua has the last word on deadlines; a run that it has forgotten is given up this much later. */
const GRACE_MS = 1000;

/** For Lua, which cuts the connection in those phases. */
const CUT = 500;

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

export class Run {
  readonly chain: Chain;
  readonly services: Services;
  readonly head: Head;
  /** Of this message; those of `head` are of the request's first chunk. */
  private flags: number;
  /** Lua's way to this run, once it has asked something. */
  id = 0;
  readonly requestIsFixed: string | undefined;
  readonly responseIsFixed: string | undefined;
  private input: RunInput;
  private readonly handlers: readonly Handler[];
  private ops: unknown[] = [];
  /** How often `ops` was sent. */
  private flushes = 0;
  private exitOps: unknown[] | undefined = undefined;
  /** No further handler runs. */
  private over = false;
  /** All handlers have run. */
  private finished = false;
  /** The chain is held until the handlers are done. */
  private holds = false;
  private abandoned: RestyTsError | undefined = undefined;
  private answer: ((changes: Changes) => void) | undefined = undefined;
  private questions: Question[] = [];
  private asked: Question[] | undefined = undefined;
  private timer: NodeJS.Timeout | undefined = undefined;
  private controllers: AbortController[] | undefined = undefined;
  private requestMade: RequestImpl | undefined = undefined;
  private responseMade: ResponseImpl | undefined = undefined;
  private ctxMade: Record<string, unknown> | undefined = undefined;
  private ctxSent: Readonly<Record<string, unknown>> = {};
  private varsMade: Record<string, string | undefined> | undefined = undefined;
  private replaced: Uint8Array | undefined = undefined;
  private bodyRules: BodyRules | undefined = undefined;
  /** Whoever has changed a piece of the body. */
  private changers: Set<Handler> | undefined = undefined;

  constructor(chain: Chain, head: Head, input: RunInput, services: Services) {
    this.chain = chain;
    this.head = head;
    this.flags = head.flags;
    this.input = input;
    this.services = services;
    this.handlers = chain.handlers[head.phase]!;
    this.requestIsFixed = FIXED_REQUEST.get(head.phase);
    this.responseIsFixed = FIXED_RESPONSE.get(head.phase);
  }

  // What handlers see -------------------------------------------------------------------------

  get request(): RequestImpl {
    return (this.requestMade ??= new RequestImpl(this));
  }

  get response(): ResponseImpl {
    return (this.responseMade ??= new ResponseImpl(this));
  }

  get ctx(): Record<string, unknown> {
    if (this.ctxMade === undefined) {
      this.ctxSent = this.input.ctx ?? {};
      this.ctxMade = { ...this.ctxSent };
    }
    return this.ctxMade;
  }

  get vars(): Record<string, string | undefined> {
    if (this.varsMade === undefined) {
      this.varsMade = Object.create(null) as Record<string, string | undefined>;
      for (const [i, name] of this.chain.vars.entries()) {
        this.varsMade[name] = textOf(this.input.vars?.[i]);
      }
    }
    return this.varsMade;
  }

  get local(): Map<unknown, unknown> {
    return this.#state().local;
  }

  get chunk(): Uint8Array {
    return this.replaced ?? this.input.chunk ?? EMPTY;
  }

  get filtersBody(): boolean {
    return this.chain.filtersBody;
  }

  get last(): boolean {
    return (this.flags & HeadFlag.last) !== 0;
  }

  addController(controller: AbortController): void {
    (this.controllers ??= []).push(controller);
    if (this.abandoned !== undefined) controller.abort(this.abandoned);
  }

  /** @throws {TypeError} in a phase that cannot wait. */
  mustWait(what: string): void {
    if (!isBeforeAnswer(this.head.phase)) {
      const name = this.handlers[0]!.phase;
      throw new TypeError(`${what} is not there in ${name}, which cannot wait: use it in access`);
    }
  }

  // Changes and questions ---------------------------------------------------------------------

  change(code: number, ...values: unknown[]): void {
    this.ops.push(code, ...values);
  }

  exit(status: number, body: string | Uint8Array | object | undefined): void {
    checkStatus(status);
    let bytes: Uint8Array | null = null;
    let type: string | undefined;
    if (typeof body === "string") {
      bytes = bytesOf(body);
      type = "text/plain; charset=utf-8";
    } else if (body instanceof Uint8Array) {
      bytes = body;
    } else if (body !== undefined) {
      bytes = bytesOf(JSON.stringify(body));
      type = "application/json";
    }
    checkBodyAllowed(status, bytes?.length ?? 0);
    if (type !== undefined && !this.response.headers.has("content-type")) {
      this.response.headers.set("content-type", type);
    }
    this.exitOps = [Change.exit, status, bytes];
    this.over = true;
  }

  /** @returns the reply's values. */
  ask(...words: unknown[]): Promise<unknown[]> {
    this.mustWait(`what asks nginx (${String(words[0])})`);
    if (this.abandoned !== undefined) return Promise.reject(this.abandoned);
    if (this.finished) {
      const text = `the phase is over: nginx cannot be asked (${String(words[0])}) any more`;
      return Promise.reject(new TypeError(text));
    }
    return new Promise((resolve, reject) => {
      this.questions.push({ words, resolve, reject });
      // All that is asked in one turn goes in one message.
      if (this.questions.length === 1) queueMicrotask(() => this.#sendQuestions());
    });
  }

  /** With the phase's other questions while it runs, on its own at any other time. */
  askShared(words: unknown[]): Promise<unknown[]> {
    const inPhase =
      isBeforeAnswer(this.head.phase) && !this.finished && this.abandoned === undefined;
    return inPhase ? this.ask(...words) : this.services.ask(words);
  }

  #sendQuestions(): void {
    if (this.answer === undefined || this.questions.length === 0 || this.finished) return;
    const { answer } = this;
    const changes = this.#takeOps();
    this.answer = undefined;
    this.asked = this.questions;
    this.questions = [];
    this.id = this.services.park(this);
    this.timer = setTimeout(
      () => this.abort(new RestyTsError("aborted", "nginx did not answer what it was asked")),
      Math.max(0, this.input.deadline - Date.now()) + GRACE_MS,
    );
    this.timer.unref();
    changes.push(
      Change.ask,
      this.id,
      this.asked.map(({ words }) => words),
    );
    answer(changes);
  }

  // What Lua does -----------------------------------------------------------------------------

  /** Runs the phase's handlers. @returns at once when none of them is asynchronous. */
  start(): Changes | Promise<Changes> {
    const pending = this.#advance(0);
    if (pending === undefined) {
      this.#finish();
      return this.#take();
    }
    this.chain.hold();
    this.holds = true;
    return new Promise((resolve) => {
      this.answer = resolve;
      void pending.then(() => {
        this.#letGo();
        this.#complete();
      });
    });
  }

  #letGo(): void {
    if (!this.holds) return;
    this.holds = false;
    this.chain.letGo();
  }

  /** The next chunk of a body whose first this run began with. */
  next(flags: number, input: RunInput): Changes | Promise<Changes> {
    this.flags = flags;
    this.input = { ...input, vars: this.input.vars, ctx: this.input.ctx };
    this.replaced = undefined;
    this.over = this.finished = false;
    return this.start();
  }

  /** @param replies to the questions, in their order. */
  resume(replies: readonly (readonly unknown[])[]): Promise<Changes> {
    clearTimeout(this.timer);
    const asked = this.asked!;
    this.asked = undefined;
    return new Promise((resolve) => {
      this.answer = resolve;
      settle(asked, replies);
      if (this.finished) this.#complete();
      else if (this.questions.length > 0) queueMicrotask(() => this.#sendQuestions());
    });
  }

  /** Nobody waits for it any more. */
  abort(reason: RestyTsError): void {
    if (this.abandoned !== undefined) return;
    this.abandoned = reason;
    this.answer = undefined;
    this.#letGo();
    this.services.unpark(this);
    clearTimeout(this.timer);
    for (const controller of this.controllers ?? []) controller.abort(reason);
    for (const question of [...(this.asked ?? []), ...this.questions]) question.reject(reason);
    this.asked = undefined;
    this.questions = [];
  }

  // Handlers ----------------------------------------------------------------------------------

  /** Runs handlers from this one on; undefined: all are done. */
  #advance(from: number): Promise<void> | undefined {
    for (let i = from; i < this.handlers.length && !this.over; i++) {
      const pending = this.#handle(this.handlers[i]!);
      if (pending !== undefined) return pending.then(() => this.#advance(i + 1));
    }
    return undefined;
  }

  #handle(handler: Handler): Promise<void> | undefined {
    const context = new PhaseContext(this, handler);
    const undo = handler.onError === 0 || handler.onTimeout === 0 ? this.#checkpoint() : undefined;
    try {
      const result = handler.run(context, handler.instance);
      if (!isThenable(result)) return this.#returned(handler, result, undo);
      if (!handler.sync) return this.#settled(handler, context, result, undo);
      // What it settles to is nobody's.
      result.then(undefined, (error: unknown) => this.services.report(handler.title, error));
      throw new TypeError(
        `${handler.title} returned a promise, and the phase cannot wait: return at once, ` +
          "or do the work in access, or hand it to ctx.waitUntil",
      );
    } catch (error) {
      this.#failed(handler, error, handler.onError, undo);
      return undefined;
    }
  }

  async #settled(
    handler: Handler,
    context: PhaseContext,
    result: PromiseLike<unknown>,
    undo: (() => void) | undefined,
  ): Promise<void> {
    let status = handler.onError;
    let timer: NodeJS.Timeout | undefined;
    try {
      let value: unknown;
      if (handler.timeoutMs === undefined || handler.phase === "log") value = await result;
      else {
        const ms = handler.timeoutMs;
        value = await new Promise((resolve, reject) => {
          timer = setTimeout(() => {
            status = handler.onTimeout;
            const text = `${handler.title} was not done within ${ms} ms`;
            const reason = new RestyTsError("timeout", text);
            context.abort(reason);
            reject(reason);
          }, ms);
          result.then(resolve, reject);
        });
      }
      await this.#returned(handler, value, undo);
    } catch (error) {
      this.#failed(handler, error, status, undo);
    } finally {
      clearTimeout(timer);
    }
  }

  #returned(
    handler: Handler,
    value: unknown,
    undo: (() => void) | undefined,
  ): Promise<void> | undefined {
    if (value === undefined || this.exitOps !== undefined) return undefined;
    const isBody = isBodyPhase(this.head.phase);
    if (isBody && (typeof value === "string" || value instanceof Uint8Array)) {
      const bytes = typeof value === "string" ? bytesOf(value) : value;
      const begun = (this.flags & HeadFlag.continues) !== 0;
      (this.bodyRules ??= new BodyRules(this.head, begun)).check(this.chunk, bytes);
      this.replaced = bytes;
      (this.changers ??= new Set()).add(handler);
      return undefined;
    }
    if (isResponse(value) && isBeforeAnswer(this.head.phase)) {
      return this.#respond(value).catch((error: unknown) => {
        this.#failed(handler, error, handler.onError, undo);
      });
    }
    const what = value === null ? "null" : isResponse(value) ? "a Response" : `a ${typeof value}`;
    const wants = isBeforeAnswer(this.head.phase)
      ? "a Response, ctx.exit(…) or nothing"
      : isBody
        ? "a string, a Uint8Array or nothing"
        : "nothing";
    throw new TypeError(`${handler.title} returned ${what}, and may return ${wants}`);
  }

  async #respond(response: Response): Promise<void> {
    const { status, fields, body, rest } = await takeApart(response);
    if (this.abandoned !== undefined) {
      await rest?.reader.cancel(this.abandoned);
      return;
    }
    for (const name of new Set(fields.map(([key]) => key))) {
      const values = fields.filter(([key]) => key === name).map(([, value]) => value);
      // Cookies of others stay.
      if (name === "set-cookie")
        for (const value of values) this.response.headers.append(name, value);
      else this.response.headers.set(name, values);
    }
    this.exitOps =
      rest === undefined
        ? [Change.exit, status, body]
        : [Change.stream, this.services.openStream(this, rest), status, body ?? EMPTY];
    this.over = true;
  }

  #failed(handler: Handler, error: unknown, status: number, undo: (() => void) | undefined): void {
    if (this.abandoned !== undefined) {
      // That it was aborted is no news.
      if (error !== this.abandoned) this.services.report(handler.title, error);
      return;
    }
    if (handler.phase === "log") {
      // There is nobody to answer, and Lua does not wait.
      this.services.report(handler.title, error);
      return;
    }
    this.exitOps = undefined;
    const refusal = isBeforeAnswer(this.head.phase) ? clientStatus(error) : undefined;
    if (refusal !== undefined) {
      this.over = true;
      this.ops.push(Change.refused, handler.instance.name, refusal, (error as Error).message);
      return;
    }
    // The rest as it came would make a body of it that nobody has meant.
    const answer = status === 0 && this.#mustCut(handler, error) ? CUT : status;
    this.over = answer !== 0;
    if (answer === 0) undo?.();
    this.ops.push(Change.failed, handler.instance.name, answer, this.services.stackOf(error));
  }

  /** Whether the body must not go on without what a handler would have done. */
  #mustCut(handler: Handler, error: unknown): boolean {
    if (!isBodyPhase(this.head.phase)) return false;
    const closed = (this.flags & HeadFlag.closed) !== 0;
    return closed || error instanceof BodyMismatch || this.changers?.has(handler) === true;
  }

  #checkpoint(): () => void {
    const { length } = this.ops;
    const { flushes, replaced, requestMade, responseMade, ctxMade } = this;
    const ctx = ctxMade === undefined ? undefined : { ...ctxMade };
    const request = requestMade?.checkpoint();
    const response = responseMade?.checkpoint();
    return () => {
      if (this.flushes !== flushes) return; // Lua has done them
      this.ops.length = length;
      this.replaced = replaced;
      this.ctxMade = ctx;
      if (request === undefined) this.requestMade = undefined;
      else request();
      if (response === undefined) this.responseMade = undefined;
      else response();
    };
  }

  // Answers -----------------------------------------------------------------------------------

  #complete(): void {
    this.#finish();
    const { answer } = this;
    if (answer === undefined) return; // Lua is busy with questions, or gone
    this.answer = undefined;
    this.services.unpark(this);
    answer(this.#take());
  }

  /** No handler awaits a question any more, but its work in the background may. */
  #finish(): void {
    this.finished = true;
    if (this.questions.length === 0) return;
    for (const { words, resolve, reject } of this.questions) {
      if (words[0] === "shared") this.services.ask(words).then(resolve, reject);
      else reject(new TypeError(`the phase is over: ${String(words[0])} cannot be asked any more`));
    }
    this.questions = [];
  }

  #take(): Changes {
    if (isBodyPhase(this.head.phase)) {
      if (this.replaced !== undefined && !this.over) this.ops.push(Change.chunk, this.replaced);
      if (!this.last && this.handlers.length > 0) {
        this.#state().bodyRuns.set(bodyRunKey(this.head), this);
      }
    }
    const changes = this.#takeOps();
    if (this.exitOps !== undefined) changes.push(...this.exitOps);
    return changes.length === 0 ? null : changes;
  }

  #takeOps(): unknown[] {
    try {
      this.#noteCtx();
    } catch (error) {
      this.#failed(this.handlers.at(-1)!, error, this.handlers.at(-1)!.onError, undefined);
    }
    const taken = this.ops;
    this.ops = [];
    this.flushes++;
    // A failure that is closed says the last word.
    return taken;
  }

  #noteCtx(): void {
    const now = this.ctxMade;
    if (now === undefined) return;
    const before = this.ctxSent;
    const ops: unknown[] = [];
    for (const [key, value] of Object.entries(now)) {
      // An object may have been changed in place.
      if (value === before[key] && (typeof value !== "object" || value === null)) continue;
      this.services.checkCarried(value, `ctx.ctx.${key}`);
      ops.push(Change.ctx, key, value ?? null);
    }
    for (const key of Object.keys(before)) {
      if (!Object.hasOwn(now, key)) ops.push(Change.ctx, key, null);
    }
    this.ctxSent = { ...now };
    this.ops.unshift(...ops);
  }

  #state(): RequestState {
    const { state, created } = this.services.stateOf(this.head.requestId);
    if (created) this.ops.push(Change.keep);
    return state;
  }
}
