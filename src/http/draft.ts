/**
 * What one handler has changed: views of its own of the request, the response and ctx.ctx, made when
 * it first looks at them over what the handlers before it have left, and the list of its changes.
 *
 * Thread: the environment's own. Invariant: a handler that has ended changes nothing any more. When
 * it ended well, the next one's draft begins with this one; when it failed, this one is dropped, and
 * with it all that it had changed.
 */
import { RestyTsError } from "../sdk/errors.js";
import { carry, isSame } from "./carried.js";
import type { Handler } from "./chain.js";
import { Change } from "./changes.js";
import type { Head } from "./head.js";
import { RequestImpl } from "./request.js";
import { ResponseImpl } from "./response.js";
import type { Run } from "./run.js";
import { bytesOf } from "./text.js";
import { checkBodyAllowed, checkStatus } from "./validate.js";

type Ctx = Record<string, unknown>;

/** Which of a draft's lists a change goes to. Left out: `others`. */
const List = {
  /** First, as an answer has them whatever nginx refuses of the others. */
  fields: 1,
  /**
   * What no question to nginx depends on, and nginx cannot undo: it is sent when the handler has
   * ended, the body last.
   */
  last: 2,
  body: 3,
} as const;

const LIST_OF: readonly (number | undefined)[] = Object.assign([] as number[], {
  [Change.responseField]: List.fields,
  [Change.appendField]: List.fields,
  [Change.upstream]: List.last,
  [Change.attachConsumer]: List.last,
  [Change.requestBody]: List.body,
});

function append(list: unknown[], items: readonly unknown[] | undefined): void {
  if (items !== undefined) for (const item of items) list.push(item);
}

const NONE: readonly never[] = [];

/** Without a prototype: a key is what somebody has set. */
function newCtx(from: Ctx): Ctx {
  return Object.assign(Object.create(null) as Ctx, from);
}

/** @param value what carry has made. */
function freeze<T>(value: T): T {
  if (typeof value !== "object" || value === null || value instanceof Uint8Array) return value;
  for (const item of Object.values(value)) freeze(item);
  return Object.freeze(value);
}

export class Draft {
  readonly run: Run;
  readonly handler: Handler;
  /** Of the handler in its phase. */
  readonly index: number;
  readonly head: Head;
  /** Of the handler before; undefined: nginx's own. */
  readonly before: Draft | undefined;
  /** The answer that the handler has given: what ends the list of changes. */
  answer: unknown[] | undefined = undefined;
  /** The handler has returned, thrown or run out of time. */
  ended = false;
  /** nginx has got a part of the changes, and can undo them. */
  flushed = false;
  /** nginx may refuse one of the changes. */
  isRefusable = false;
  // Changes that nginx has not got yet: codes and their arguments.
  private fields: unknown[] | undefined = undefined;
  private others: unknown[] | undefined = undefined;
  private last: unknown[] | undefined = undefined;
  private body: unknown[] | undefined = undefined;
  /** Response fields that it has got. */
  private fieldsSent: unknown[] | undefined = undefined;
  private requestMade: RequestImpl | undefined = undefined;
  private responseMade: ResponseImpl | undefined = undefined;
  private ctxMade: Ctx | undefined = undefined;
  /** What of it nginx has got. */
  private ctxFlushed: Ctx | undefined = undefined;
  /** What of it cannot be carried, by key, as the log has been told. */
  private uncarried: Map<string, unknown> | undefined = undefined;
  private controller: AbortController | undefined = undefined;
  private varsSet: Map<string, string | undefined> | undefined = undefined;

  constructor(run: Run, handler: Handler, index: number, before: Draft | undefined) {
    this.run = run;
    this.handler = handler;
    this.index = index;
    this.head = run.head;
    this.before = before;
  }

  // Views -------------------------------------------------------------------------------------

  get request(): RequestImpl {
    return (this.requestMade ??= new RequestImpl(this, this.before?.requestSoFar()));
  }

  get response(): ResponseImpl {
    return (this.responseMade ??= new ResponseImpl(this, this.before?.responseSoFar()));
  }

  /** A copy: what a handler does to objects in it is its own until it has ended well. */
  get ctx(): Ctx {
    if (this.ctxMade === undefined) {
      this.ctxMade = newCtx(carry(this.ctxBefore()) as Ctx);
      if (this.ended) freeze(this.ctxMade);
    }
    return this.ctxMade;
  }

  get vars(): Readonly<Record<string, string | undefined>> {
    const set = this.varsSoFar();
    return set === undefined ? this.run.vars : { ...this.run.vars, ...Object.fromEntries(set) };
  }

  /** What a handler has set; undefined: nothing. */
  varsSoFar(): Map<string, string | undefined> | undefined {
    return this.varsSet ?? this.before?.varsSoFar();
  }

  private requestSoFar(): RequestImpl | undefined {
    return this.requestMade ?? this.before?.requestSoFar();
  }

  private responseSoFar(): ResponseImpl | undefined {
    return this.responseMade ?? this.before?.responseSoFar();
  }

  /** What the handler began with: nobody changes it. */
  private ctxBefore(): Ctx {
    return this.before?.ctxAfter() ?? this.run.ctx;
  }

  /** What the next one begins with. */
  ctxAfter(): Ctx | undefined {
    return this.ctxMade ?? this.before?.ctxAfter();
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

  // Changes -----------------------------------------------------------------------------------

  /**
   * @param fixed why the phase may not change it; undefined: it may.
   * @throws {TypeError} when it may not, or the handler has ended.
   */
  checkOpen(fixed: string | undefined): void {
    if (fixed !== undefined) throw new TypeError(fixed);
    if (!this.ended) return;
    const { abandoned } = this.run;
    if (abandoned !== undefined) throw abandoned;
    const { title } = this.handler;
    const error = new TypeError(`${title} has ended: it can change nothing any more`);
    this.run.services.report(title, error);
    throw error;
  }

  /** Why the phase may not change the request, or undefined. */
  get requestIsFixed(): string | undefined {
    return this.run.requestIsFixed;
  }

  /** Why the phase may not change the response, or undefined. */
  get responseIsFixed(): string | undefined {
    return this.run.responseIsFixed;
  }

  get filtersBody(): boolean {
    return this.run.chain.filtersBody;
  }

  /** @param change a code and its arguments. */
  change(...change: unknown[]): void {
    this.checkOpen(undefined);
    const code = change[0] as number;
    const written = code === Change.writeField ? (change[1] as number) : code;
    const list = LIST_OF[written];
    if (list === List.fields) {
      append((this.fields ??= []), change);
      return;
    }
    if (list === undefined) {
      append((this.others ??= []), change);
      // Of a new target, when another location is to be found for it.
      if (code !== Change.variable && !(code === Change.uri && change[4] === true)) return;
    } else if (list === List.last) append((this.last ??= []), change);
    else append((this.body ??= []), change);
    // The rest was checked here.
    this.isRefusable = true;
  }

  setVariable(name: string, value: string | null): void {
    this.change(Change.variable, name, value);
    this.varsSet ??= new Map(this.before?.varsSoFar());
    this.varsSet.set(name, value ?? undefined);
  }

  ask(...words: unknown[]): Promise<unknown[]> {
    return this.run.ask(this, words);
  }

  exit(status: number, body: string | Uint8Array | object | undefined): void {
    this.checkOpen(undefined);
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
    this.answer = [Change.exit, status, bytes];
  }

  // For the run -------------------------------------------------------------------------------

  /** The handler has ended. */
  end(): void {
    this.ended = true;
    if (this.ctxMade !== undefined) Object.freeze(this.ctxMade);
  }

  /**
   * Appends what nginx has not got yet to the list.
   *
   * @param sofar the handler goes on: what no question depends on stays.
   */
  flush(list: unknown[], sofar: boolean): void {
    const refusable = this.flushed || sofar || this.isRefusable;
    const own = refusable ? [] : list;
    const uncarried = this.ctxMade === undefined ? NONE : this.#flushCtx(this.ctxMade, own);
    append(own, this.fields);
    append(own, this.others);
    if (sofar) {
      if (this.fields) append((this.fieldsSent ??= []), this.fields);
      this.isRefusable = this.last !== undefined || this.body !== undefined;
    } else {
      append(own, this.last);
      append(own, this.body);
      this.last = this.body = undefined;
      this.isRefusable = false;
    }
    this.fields = this.others = undefined;
    if (refusable && own.length > 0) {
      const { onError, instance } = this.handler;
      // What nginx refuses takes nothing from an answer.
      const status = this.answer === undefined ? onError : null;
      list.push(Change.handler, this.index, instance.name, status, own.length);
      append(list, own);
      this.flushed ||= sofar;
    }
    for (const error of uncarried) this.run.letPass(this.handler, error, list);
  }

  /** nginx has refused a change and undone what it had, but for the fields of an answer. */
  undone(): void {
    this.flushed = false;
    this.fieldsSent = undefined;
  }

  /** The handler has failed, and a failure's answer has the response fields that were set. */
  flushFields(list: unknown[]): void {
    append(list, this.fieldsSent);
    append(list, this.fields);
  }

  /** @returns why values have stayed behind. */
  #flushCtx(now: Ctx, list: unknown[]): unknown[] {
    const errors: unknown[] = [];
    const before = this.ctxFlushed ?? this.ctxBefore();
    const after = newCtx({});
    for (const [key, value] of Object.entries(now)) {
      if (value === undefined) continue;
      if (Object.hasOwn(before, key) && isSame(value, before[key])) {
        after[key] = before[key];
        continue;
      }
      try {
        this.run.services.checkCarried(value, `ctx.ctx.${key}`);
        after[key] = carry(value);
        list.push(Change.ctx, key, after[key]);
      } catch (error) {
        if (this.uncarried?.get(key) === value) continue;
        (this.uncarried ??= new Map()).set(key, value);
        const why = error instanceof Error ? error.message : String(error);
        errors.push(new RestyTsError("bad_result", `not passed on: ${why}`, { cause: error }));
      }
    }
    for (const key of Object.keys(before)) {
      if (!Object.hasOwn(after, key)) list.push(Change.ctx, key, null);
    }
    this.ctxFlushed = after;
    if (this.ended) this.ctxMade = freeze(after);
    return errors;
  }
}
