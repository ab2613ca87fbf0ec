/**
 * One phase of one request: its handlers in their order, and what becomes of each: its changes go to
 * nginx, its answer to the client, its failure to its policy.
 *
 * Thread: the environment's own. Invariant: an answer that a handler has given stands, and a handler
 * that fails takes nothing with it but its own changes.
 */
import { RestyTsError } from "../sdk/errors.js";
import { BodyMismatch, BodyRules } from "./body-rules.js";
import { type Chain, type Handler } from "./chain.js";
import { Change, changeField, type Changes } from "./changes.js";
import { clientStatus } from "./client-error.js";
import { PhaseContext } from "./context.js";
import { Draft } from "./draft.js";
import { fieldName } from "./field-names.js";
import { type Head, HeadFlag } from "./head.js";
import {
  FIXED_REQUEST,
  FIXED_RESPONSE,
  isBeforeAnswer,
  isBodyPhase,
  PhaseNumber,
} from "./phases.js";
import { type Asking, Conversation, type Question, type Replies } from "./questions.js";
import { RequestState } from "./requests.js";
import { type AnswerParts, isResponse, takeApart } from "./response.js";
import { bodyRunKey, type RunInput, type Services } from "./services.js";
import { bytesOf, textOf } from "./text.js";

const EMPTY = new Uint8Array(0);

/** For Lua, which cuts the connection in those phases. */
const CUT = 500;

/** They see what the handler has changed so far. */
const SEES_CHANGES: ReadonlySet<unknown> = new Set(["var", "subrequest"]);

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === "function";
}

export class Run implements Asking {
  readonly chain: Chain;
  readonly services: Services;
  readonly head: Head;
  /** Of this message; those of `head` are of the request's first chunk. */
  private flags: number;
  /** Lua's way to this run, once it has asked something. */
  id = 0;
  readonly requestIsFixed: string | undefined;
  readonly responseIsFixed: string | undefined;
  /** Nobody waits for it any more, and why. */
  abandoned: RestyTsError | undefined = undefined;
  private input: RunInput;
  private readonly handlers: readonly Handler[];
  /** Changes that are nginx's to make. */
  private changes: unknown[] = [];
  /** What ends the list. */
  private answer: unknown[] | undefined = undefined;
  /** No further handler runs. */
  private over = false;
  /** All handlers have run. */
  private finished = false;
  /** Of the handler that is running, or has run last. */
  private draft: Draft | undefined = undefined;
  /** Of the last handler that ended well. */
  private kept: Draft | undefined = undefined;
  /** Ends the handler that is running. */
  private fail: ((error: unknown) => void) | undefined = undefined;
  private conversation: Conversation | undefined = undefined;
  private state: RequestState | undefined = undefined;
  private controllers: AbortController[] | undefined = undefined;
  private varsMade: Record<string, string | undefined> | undefined = undefined;
  /** What the piece of the body has become. */
  private replaced: Uint8Array | undefined = undefined;
  private bodyRules: BodyRules | undefined = undefined;
  /** Those that have changed a piece of the body. */
  private changers: Set<Handler> | undefined = undefined;
  /** Those that have failed at a piece, and see no other. */
  private out: Set<Handler> | undefined = undefined;

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

  /** As nginx has sent it. */
  get ctx(): Record<string, unknown> {
    return this.input.ctx ?? {};
  }

  /** As nginx has sent them. */
  get vars(): Record<string, string | undefined> {
    if (this.varsMade === undefined) {
      this.varsMade = Object.create(null) as Record<string, string | undefined>;
      for (const [i, name] of this.chain.vars.entries()) {
        this.varsMade[name] = textOf(this.input.vars?.[i]);
      }
      Object.freeze(this.varsMade); // setting one would reach nobody
    }
    return this.varsMade;
  }

  get local(): Map<unknown, unknown> {
    // Once the phase is over the request may have ended: what is made then is this run's alone.
    this.state ??= this.finished ? new RequestState() : this.#enter();
    return (this.state.local ??= new Map());
  }

  get chunk(): Uint8Array {
    return this.replaced ?? this.input.chunk ?? EMPTY;
  }

  get filtersBody(): boolean {
    return this.chain.filtersBody;
  }

  get endTime(): number {
    return this.input.endTime ?? NaN;
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

  /** Lets work go on after the phase. */
  track(work: Promise<unknown>, title: string): void {
    if (!this.finished) (this.state ??= this.#enter()).held = true;
    this.services.track(work, title, this.chain);
  }

  // Questions ---------------------------------------------------------------------------------

  /** @returns the reply's values. */
  ask(draft: Draft, words: unknown[]): Promise<unknown[]> {
    this.mustWait(`what asks nginx (${String(words[0])})`);
    if (this.abandoned !== undefined) return Promise.reject(this.abandoned);
    if (draft.ended) return Promise.reject(tooLate(draft.handler.title, words));
    return this.#conversation().ask(words);
  }

  /** With the phase's other questions while the handler runs, on its own at any other time. */
  askShared(draft: Draft, words: unknown[]): Promise<unknown[]> {
    const inPhase = isBeforeAnswer(this.head.phase) && !draft.ended && this.abandoned === undefined;
    return inPhase ? this.#conversation().ask(words) : this.services.ask(words);
  }

  takeQuestions(questions: readonly Question[]): unknown[] {
    const { draft } = this;
    if (draft?.ended === false && questions.some(({ words }) => SEES_CHANGES.has(words[0]))) {
      draft.flush(this.changes, true);
    }
    this.id = this.services.park(this);
    const words = questions.map((question) => question.words);
    return [...this.changes.splice(0), Change.ask, this.id, words];
  }

  #conversation(): Conversation {
    return (this.conversation ??= new Conversation(this, this.input.deadline));
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
    const state = (this.state ??= this.#enter());
    if (this.head.phase !== PhaseNumber.log) state.run = this;
    const changes = this.#conversation().wait();
    void pending.then(() => {
      this.chain.letGo();
      if (state.run === this) this.services.leave(this, state);
      this.#finish();
      this.#complete();
    });
    return changes;
  }

  /** The next chunk of a body whose first this run began with. */
  next(flags: number, input: RunInput): Changes | Promise<Changes> {
    this.flags = flags;
    this.input = { ...input, vars: this.input.vars, ctx: this.kept?.ctxAfter() ?? this.input.ctx };
    this.kept = this.replaced = undefined;
    this.over = this.finished = false;
    return this.start();
  }

  resume(replies: Replies): Promise<Changes> {
    if (typeof replies === "string") {
      this.draft!.undone();
      this.fail?.(new RestyTsError("bad_response", `nginx refused a change: ${replies}`));
    }
    const changes = this.conversation!.resume(replies);
    if (this.finished) this.#complete();
    return changes;
  }

  /** Nobody waits for it any more. */
  abort(reason: RestyTsError): void {
    if (this.abandoned !== undefined) return;
    this.abandoned = reason;
    this.draft?.end();
    this.services.unpark(this);
    for (const controller of this.controllers ?? []) controller.abort(reason);
    this.conversation?.close(reason);
    this.fail?.(reason);
  }

  // Handlers ----------------------------------------------------------------------------------

  /** Runs handlers from this one on; undefined: all are done. */
  #advance(from: number): Promise<void> | undefined {
    for (let i = from; i < this.handlers.length && !this.over; i++) {
      const handler = this.handlers[i]!;
      if (this.out?.has(handler)) continue;
      const pending = this.#handle(handler, i);
      if (pending !== undefined) return pending.then(() => this.#advance(i + 1));
    }
    return undefined;
  }

  #handle(handler: Handler, index: number): Promise<void> | undefined {
    const draft = new Draft(this, handler, index, this.kept);
    this.draft = draft;
    try {
      this.#checkSize(handler);
      const result = handler.run(new PhaseContext(draft), handler.instance);
      if (!isThenable(result)) return this.#returned(draft, result);
      if (!handler.sync) return this.#settled(draft, result);
      // What it settles to is nobody's.
      result.then(undefined, (error: unknown) => this.services.report(handler.title, error));
      throw new TypeError(
        `${handler.title} returned a promise, and the phase cannot wait: return at once, ` +
          "or do the work in access, or hand it to ctx.waitUntil",
      );
    } catch (error) {
      this.#failed(draft, error, handler.onError);
      return undefined;
    }
  }

  /** @throws {RestyTsError} "too_large": more than this plugin buffers. */
  #checkSize({ instance }: Handler): void {
    if (this.head.phase !== PhaseNumber.bodyFilter) return;
    const most = instance.plugin.bufferResponse?.maxBytes;
    if (most === undefined) return;
    if ((this.flags & HeadFlag.unbuffered) === 0 && this.input.chunk!.length <= most) return;
    throw new RestyTsError("too_large", `the response's body has more than ${most} bytes`);
  }

  async #settled(draft: Draft, result: PromiseLike<unknown>): Promise<void> {
    const { handler } = draft;
    let status = handler.onError;
    let timer: NodeJS.Timeout | undefined;
    let late: RestyTsError | undefined;
    try {
      const value = await new Promise((resolve, reject) => {
        const fail: (error: unknown) => void = reject;
        this.fail = fail;
        const ms = this.#timeLeft(handler);
        if (ms !== undefined) {
          timer = setTimeout(() => {
            status = handler.onTimeout;
            const when =
              ms === handler.timeoutMs ? `within ${ms} ms` : "when the phase's deadline passed";
            late = new RestyTsError("timeout", `${handler.title} was not done ${when}`);
            draft.end();
            draft.abort(late);
            fail(late);
          }, ms);
        }
        result.then(resolve, (error: unknown) => {
          if (draft.ended) this.#reportLate(draft, error, late);
          else fail(error);
        });
      });
      await this.#returned(draft, value);
    } catch (error) {
      this.#failed(draft, error, status);
    } finally {
      this.fail = undefined;
      clearTimeout(timer);
    }
  }

  /** In ms; undefined: it may take its time. */
  #timeLeft({ phase, timeoutMs }: Handler): number | undefined {
    if (phase === "log") return undefined;
    const left = Math.max(0, this.input.deadline - Date.now());
    return timeoutMs === undefined ? left : Math.min(timeoutMs, left);
  }

  /** What a handler fails with that has ended already: that it was aborted is no news. */
  #reportLate({ handler }: Draft, error: unknown, late: RestyTsError | undefined): void {
    const reason = this.abandoned ?? late;
    if (error === reason || (error as { cause?: unknown } | null)?.cause === reason) return;
    this.services.report(handler.title, error);
  }

  /** A handler has returned. */
  #returned(draft: Draft, value: unknown): Promise<void> | undefined {
    const { handler } = draft;
    if (value === undefined || draft.answer !== undefined) return this.#keep(draft);
    const isBody = isBodyPhase(this.head.phase);
    if (isBody && (typeof value === "string" || value instanceof Uint8Array)) {
      const bytes = typeof value === "string" ? bytesOf(value) : value;
      const begun = (this.flags & HeadFlag.continues) !== 0;
      (this.bodyRules ??= new BodyRules(this.head, begun)).check(this.chunk, bytes);
      this.replaced = bytes;
      (this.changers ??= new Set()).add(handler);
      return this.#keep(draft);
    }
    if (isResponse(value) && isBeforeAnswer(this.head.phase)) return this.#respond(draft, value);
    const what = value === null ? "null" : isResponse(value) ? "a Response" : `a ${typeof value}`;
    const wants = isBeforeAnswer(this.head.phase)
      ? "a Response, ctx.exit(…) or nothing"
      : isBody
        ? "a string, a Uint8Array or nothing"
        : "nothing";
    throw new TypeError(`${handler.title} returned ${what}, and may return ${wants}`);
  }

  async #respond(draft: Draft, response: Response): Promise<void> {
    let parts: AnswerParts;
    try {
      draft.end();
      parts = await takeApart(response);
    } catch (error) {
      this.#failed(draft, error, draft.handler.onError);
      return;
    }
    const { status, fields, body, rest } = parts;
    if (this.abandoned !== undefined) {
      this.over = true;
      await rest?.reader.cancel(this.abandoned);
      return;
    }
    draft.answer =
      rest === undefined
        ? [Change.exit, status, body]
        : [Change.stream, this.services.openStream(this, rest), status, body ?? EMPTY];
    await this.#keep(draft);
    const to = { change: (...change: unknown[]) => void this.changes.push(...change) };
    for (const name of new Set(fields.map(([key]) => key))) {
      const values = fields.filter(([key]) => key === name).map(([, value]) => value);
      // Cookies of others stay.
      const field = fieldName(name);
      if (name !== "set-cookie") changeField(to, Change.responseField, field, name, values);
      else for (const value of values) changeField(to, Change.appendField, field, name, value);
    }
  }

  /** A handler has ended well, or with an answer. */
  #keep(draft: Draft): Promise<void> | undefined {
    draft.end();
    if (this.abandoned !== undefined) {
      this.over = true;
      return undefined;
    }
    this.over = draft.answer !== undefined;
    this.answer = draft.answer;
    const mustAsk = !this.over && draft.index < this.handlers.length - 1 && draft.isRefusable;
    draft.flush(this.changes, false);
    this.kept = draft;
    if (!mustAsk) return undefined;
    // The next one begins with what nginx has taken.
    return this.#conversation()
      .ask(["applied"])
      .then(
        () => undefined,
        (error: unknown) => this.#failed(draft, error, draft.handler.onError),
      );
  }

  /** A handler has failed. */
  #failed(draft: Draft, error: unknown, status: number): void {
    draft.end();
    const { handler } = draft;
    if (this.abandoned !== undefined) {
      this.over = true;
      this.#reportLate(draft, error, undefined);
      return;
    }
    if (draft.answer !== undefined) {
      void this.#keep(draft); // it asks nothing
      this.letPass(handler, error, this.changes);
      return;
    }
    if (this.kept === draft) this.kept = draft.before;
    if (draft.flushed) this.changes.push(Change.undo);
    const refusal = isBeforeAnswer(this.head.phase) ? clientStatus(error) : undefined;
    if (refusal !== undefined) {
      this.over = true;
      draft.flushFields(this.changes);
      const { message } = error as Error;
      this.answer = [Change.refused, handler.instance.name, refusal, message];
      return;
    }
    // The rest as it came would make a body of it that nobody has meant.
    const answer = status === 0 && this.#mustCut(handler, error) ? CUT : status;
    if (answer === 0 || handler.phase === "log") {
      if (isBodyPhase(this.head.phase)) (this.out ??= new Set()).add(handler);
      this.letPass(handler, error, this.changes);
      return;
    }
    this.over = true;
    if (isBeforeAnswer(this.head.phase)) draft.flushFields(this.changes);
    const text = this.services.stackOf(error);
    this.answer = [Change.failed, handler.instance.name, answer, text];
  }

  /** Whether the body must not go on without what a handler would have done. */
  #mustCut(handler: Handler, error: unknown): boolean {
    if (!isBodyPhase(this.head.phase)) return false;
    const closed = (this.flags & HeadFlag.closed) !== 0;
    return closed || error instanceof BodyMismatch || this.changers?.has(handler) === true;
  }

  /** Has a failure logged that changes nothing else. */
  letPass(handler: Handler, error: unknown, list: unknown[]): void {
    // Of the phase log nginx is told nothing.
    if (handler.phase === "log") this.services.report(handler.title, error);
    else list.push(Change.failed, handler.instance.name, 0, this.services.stackOf(error));
  }

  // Answers -----------------------------------------------------------------------------------

  /** No handler awaits a question any more, but its work in the background may. */
  #finish(): void {
    this.finished = true;
    this.conversation?.end(({ words, resolve, reject }) => {
      if (words[0] === "shared") this.services.ask(words).then(resolve, reject);
      else reject(tooLate(this.draft!.handler.title, words));
    });
  }

  #complete(): void {
    if (!this.conversation!.isAwaited) return; // Lua is busy with questions, or gone
    this.services.unpark(this);
    this.conversation!.tell(this.#take());
  }

  #take(): Changes {
    if (isBodyPhase(this.head.phase)) {
      if (this.replaced !== undefined && !this.over) {
        this.changes.push(Change.chunk, this.replaced);
      }
      if (!this.last && this.handlers.length > 0) {
        this.state ??= this.#enter();
        (this.state.bodies ??= new Map()).set(bodyRunKey(this.head), this);
      }
    }
    const { changes, answer } = this;
    this.changes = [];
    if (answer !== undefined) for (const item of answer) changes.push(item);
    return changes.length === 0 ? null : changes;
  }

  #enter(): RequestState {
    return this.services.enter(this.head.requestId);
  }
}

function tooLate(title: string, words: readonly unknown[]): TypeError {
  return new TypeError(`${title} has ended: nginx cannot be asked (${String(words[0])}) any more`);
}
