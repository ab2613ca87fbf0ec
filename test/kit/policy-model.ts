/**
 * What must come of a request through a chain of scripted plugins, by docs/plugins.md and
 * docs/phases.md alone: handlers one after the other, each with a copy of the state that becomes the
 * state when it ends well. Knows nothing of how the engine and Lua do it.
 */
import type { Phase, Policies, PhaseOptions, Policy } from "resty-ts";
import type { MemberOptions } from "../../src/testing/types.ts";
import {
  BODY_PHASES,
  type Change,
  type Late,
  type Scripts,
  type ScriptedSpec,
  type Step,
  WAITING,
} from "./scripted.ts";

export interface ChainMember {
  readonly name: string;
  readonly spec: ScriptedSpec;
  readonly options: MemberOptions;
}

export interface Start {
  readonly uri: string;
  readonly body: string;
  readonly reply: {
    readonly status: number;
    readonly body: string;
    readonly headers: Readonly<Record<string, string>>;
  };
  /** These phases find no room for a call. */
  readonly overload: readonly Phase[];
}

export interface Expected {
  readonly status: number;
  readonly cut: boolean;
  /** Of a failure that was answered: null; else the body. */
  readonly body: string;
  readonly fields: Readonly<Record<string, readonly string[]>>;
  readonly upstream: {
    readonly uri: string;
    readonly body: string;
    readonly a: string;
    readonly b: string;
  } | null;
  /** "plugin, phase", sorted. */
  readonly failures: readonly string[];
  /** What the handlers saw, in their order. */
  readonly lines: readonly string[];
  readonly ctx: Readonly<Record<string, unknown>>;
  readonly variables: Readonly<Record<string, string | null>>;
}

type Fields = Record<string, string[]>;

/** All that handlers change. */
interface State {
  request: Fields;
  uri: string;
  body: string;
  response: Fields;
  /** Of the response, those that were set or deleted: the upstream's are left out. */
  overrides: Record<string, true>;
  status: number;
  ctx: Record<string, unknown>;
  variables: Record<string, string | null>;
}

type Kind = keyof Policies;
const CLOSED = { onError: 500, onTimeout: 504, onOverload: 503 } as const;
/** Questions whose reply may depend on what the handler has changed. */
const SEES_CHANGES: ReadonlySet<string> = new Set(["variable", "subrequest", "two"]);
/** The client's, whatever the policies. */
const MISTAKE = 415;
/** As a problem's body is compared. */
export const PROBLEM = "{problem}";

const isWaiting = (phase: Phase): boolean => (WAITING as readonly Phase[]).includes(phase);

/** 0: open; else the status that it answers with. */
export function policyOf({ spec, options }: ChainMember, phase: Phase, kind: Kind): number {
  const given: (Policies | PhaseOptions | undefined)[] = [
    options,
    spec.options?.[phase],
    spec.policies,
  ];
  const policy: Policy =
    given.map((one) => one?.[kind]).find((one) => one !== undefined) ??
    (isWaiting(phase) ? "closed" : "open");
  if (policy === "open") return 0;
  return policy === "closed" ? CLOSED[kind] : policy;
}

export function hasDeadline({ spec, options }: ChainMember, phase: Phase): boolean {
  return (options.timeoutMs ?? spec.options?.[phase]?.timeoutMs) !== undefined;
}

function inOrder(chain: readonly ChainMember[]): ChainMember[] {
  const priority = ({ spec, options }: ChainMember): number =>
    options.priority ?? spec.priority ?? 0;
  return [...chain].sort((a, b) => priority(b) - priority(a));
}

function changeState(state: State, step: Change): void {
  const [what, first, second] = step;
  switch (what) {
    case "request":
    case "response":
      if (what === "response") state.overrides[first] = true;
      if (second === null) Reflect.deleteProperty(state[what], first);
      else state[what][first] = [second];
      break;
    case "append to request":
      (state.request[first] ??= []).push(second);
      break;
    case "append to response":
      (state.response[first] ??= []).push(second);
      break;
    case "variable":
      state.variables[first] = second;
      break;
    case "ctx":
      if (second === null) Reflect.deleteProperty(state.ctx, first);
      else state.ctx[first] = second;
      break;
    case "push": {
      // An array, whatever Lua makes of an empty one.
      const before = state.ctx[first];
      state.ctx[first] = [...(Array.isArray(before) ? (before as string[]) : []), second];
      break;
    }
    case "uri":
    case "body":
      state[what] = first;
      break;
    case "status":
      state.status = first;
      break;
  }
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

/** How a handler has ended. */
interface Ended {
  readonly answer: Answer | undefined;
  readonly failure: Kind | "mistake" | undefined;
  /** nginx has refused its changes. */
  readonly refused: boolean;
}

/** What a handler has put into ctx.ctx that nobody else gets: one line in the log for each. */
class Uncarriable {
  readonly #keys = new Set<string>();
  readonly #told = new Set<string>();

  constructor(
    readonly model: Model,
    readonly member: ChainMember,
    readonly phase: Phase,
  ) {}

  set(key: string): void {
    this.#keys.add(key);
    this.#told.delete(key);
    Reflect.deleteProperty(this.model.state.ctx, key);
  }

  change(step: Change): void {
    if (step[0] === "ctx" || step[0] === "push") this.#keys.delete(step[1]);
  }

  /** Others get what the handler has changed. */
  leave(): void {
    for (const key of this.#keys) {
      if (this.#told.has(key)) continue;
      this.#told.add(key);
      this.model.fail(this.member, this.phase);
    }
  }
}

class Model {
  readonly chain: readonly ChainMember[];
  readonly scripts: Scripts;
  readonly start: Start;
  state: State;
  readonly failures: string[] = [];
  readonly lines: string[] = [];
  cut = false;
  /** How many environments have ended. */
  ends = 0;

  constructor(chain: readonly ChainMember[], scripts: Scripts, start: Start) {
    this.chain = inOrder(chain);
    this.scripts = scripts;
    this.start = start;
    this.state = {
      request: {},
      uri: start.uri,
      body: start.body,
      response: {},
      overrides: {},
      status: 0,
      ctx: {},
      variables: { v1: "", v2: "" },
    };
  }

  handlersOf(phase: Phase): ChainMember[] {
    return this.chain.filter(({ spec }) => spec.phases.includes(phase));
  }

  stepsOf({ name }: ChainMember, phase: Phase): readonly Step[] {
    return this.scripts[name]?.[phase] ?? [];
  }

  fail(member: ChainMember, phase: Phase): void {
    this.failures.push(`${member.name}, ${phase}`);
  }

  look({ name }: ChainMember, phase: Phase): void {
    const { request, uri, ctx } = this.state;
    const seen = [
      (request["x-a"] ?? []).join(),
      (request["x-b"] ?? []).join(),
      uri,
      ...["c1", "c2", "list"].map((key) => ctx[key] ?? null),
    ];
    this.lines.push(`[${name}] ${phase} ${JSON.stringify(seen)}`);
  }

  /** It throws, and the log has a line; but what is in ctx.ctx may still be changed, by itself. */
  late(step: Late | null, member: ChainMember, phase: Phase): void {
    if (step !== null && step[0] !== "push") this.fail(member, phase);
  }

  /** Does what the script says, to the state. */
  perform(member: ChainMember, phase: Phase): Ended {
    let answer: Answer | undefined;
    const uncarriable = new Uncarriable(this, member, phase);
    let undefinedVariable = false;
    const ended = (given?: Ended["failure"]): Ended => {
      const isOut = given === undefined || answer !== undefined;
      if (isOut) uncarriable.leave();
      const refused = isOut && undefinedVariable;
      // Two failures: its own, and that of what it has left to nginx.
      if (refused && given !== undefined) this.fail(member, phase);
      return { answer, failure: given ?? (refused ? "onError" : undefined), refused };
    };
    for (const step of this.stepsOf(member, phase)) {
      switch (step[0]) {
        case "ask":
          if (!SEES_CHANGES.has(step[1])) break;
          // nginx gets what was changed before, and may refuse it.
          uncarriable.leave();
          if (undefinedVariable) return ended();
          break;
        case "exit":
          answer = { status: step[1], body: step[2] ?? "" };
          break;
        case "respond":
          if (answer !== undefined) return ended();
          answer = { status: step[1], body: step[2] };
          if (step[3] !== null) this.state.response["x-ra"] = [step[3]];
          return ended();
        case "uncarriable":
          uncarriable.set(step[1]);
          break;
        case "throw":
        case "refused":
          return ended("onError");
        case "mistake":
          return ended("mistake");
        case "undefined variable":
          undefinedVariable = true;
          break;
        case "return":
          return ended(answer === undefined ? "onError" : undefined);
        case "hang":
          this.late(step[1], member, phase);
          return ended("onTimeout");
        case "after":
          this.late(step[1], member, phase);
          break;
        case "exit process":
          this.ends++;
          return ended("onOverload");
        case "wait":
        case "edit":
        case "fail":
          break;
        default:
          uncarriable.change(step);
          changeState(this.state, step);
      }
    }
    return ended();
  }

  /** rewrite, access, beforeProxy, content. @returns what the client is answered, if it is. */
  requestPhase(phase: Phase): Answer | undefined {
    const handlers = this.handlersOf(phase);
    if (handlers.length === 0) return undefined;
    const status = this.wholeCall(phase, handlers);
    if (status !== undefined) return status === 0 ? undefined : problem(status);
    const atFirst = structuredClone(this.state);
    for (const member of handlers) {
      const before = structuredClone(this.state);
      this.look(member, phase);
      const { answer, failure, refused } = this.perform(member, phase);
      if (failure === "onOverload") {
        this.state = atFirst;
        const whole = this.failWhole(phase, handlers);
        return whole === 0 ? undefined : problem(whole);
      }
      const isNews = failure !== "mistake" || answer !== undefined;
      if (failure !== undefined && isNews) this.fail(member, phase);
      if (answer !== undefined) {
        if (refused) this.state = { ...before, response: this.state.response };
        return answer;
      }
      if (failure === undefined) continue;
      const policy = failure === "mistake" ? MISTAKE : policyOf(member, phase, failure);
      // An answer to a failure has the response's fields, too.
      this.state = policy === 0 ? before : { ...before, response: this.state.response };
      if (policy !== 0) return problem(policy);
    }
    return undefined;
  }

  /** @returns the status of the policy when the phase's call fails; undefined: it does not. */
  wholeCall(phase: Phase, handlers: readonly ChainMember[]): number | undefined {
    return this.start.overload.includes(phase) ? this.failWhole(phase, handlers) : undefined;
  }

  failWhole(phase: Phase, handlers: readonly ChainMember[]): number {
    this.failures.push(`${handlers.map(({ name }) => name).join(", ")}, ${phase}`);
    return handlers.map((one) => policyOf(one, phase, "onOverload")).find((one) => one !== 0) ?? 0;
  }

  /** What plugins declare comes before the handlers. */
  declare(): void {
    for (const { spec } of this.chain) {
      for (const [name, value] of Object.entries(spec.responseHeaders ?? {})) {
        changeState(this.state, ["response", name, value]);
      }
    }
  }

  headerFilter(): void {
    const phase = "headerFilter";
    const handlers = this.handlersOf(phase);
    if (handlers.length === 0) return;
    const status = this.wholeCall(phase, handlers);
    if (status !== undefined) {
      this.cut = status !== 0;
      return;
    }
    const atFirst = structuredClone(this.state);
    for (const member of handlers) {
      const before = structuredClone(this.state);
      this.look(member, phase);
      const { failure } = this.perform(member, phase);
      if (failure === undefined) continue;
      if (failure === "onOverload") {
        this.state = atFirst;
        this.cut = this.failWhole(phase, handlers) !== 0;
        return;
      }
      this.fail(member, phase);
      this.state = before;
      if (policyOf(member, phase, "onError") === 0) continue;
      this.cut = true;
      return;
    }
  }

  /** @returns what the client gets of it. */
  filterBody(body: string): string {
    const pieces = body === "" ? [""] : [body, ""];
    const bodies = BODY_PHASES.map((phase) => new BodyModel(this, phase));
    let sent = "";
    for (const [i, piece] of pieces.entries()) {
      let text = piece;
      for (const one of bodies) {
        text = one.filter(text, i === pieces.length - 1);
        if (this.cut) return sent;
      }
      sent += text;
    }
    return sent;
  }

  log(): void {
    for (const member of this.handlersOf("log")) {
      this.look(member, "log");
      const before = structuredClone(this.state.ctx);
      const { failure } = this.perform(member, "log");
      if (failure !== undefined) this.fail(member, "log");
      this.state.ctx = before;
    }
  }

  run(): Expected {
    let upstream: Expected["upstream"] = null;
    let answer: Answer | undefined;
    for (const phase of ["rewrite", "access", "beforeProxy"] as const) {
      answer ??= this.requestPhase(phase);
    }
    if (answer === undefined && this.handlersOf("content").length > 0) {
      answer = this.requestPhase("content") ?? { status: this.state.status || 200, body: "" };
    }
    if (answer === undefined) {
      const { uri, body, request } = this.state;
      upstream = { uri, body, a: (request["x-a"] ?? []).join(), b: (request["x-b"] ?? []).join() };
      answer = this.start.reply;
      for (const [name, value] of Object.entries(this.start.reply.headers)) {
        if (!this.state.overrides[name]) (this.state.response[name] ??= []).push(value);
      }
    }
    this.state.status = answer.status;
    this.declare();
    this.headerFilter();
    const body = this.cut ? "" : this.filterBody(answer.body);
    const { ctx, variables } = structuredClone(this.state);
    const { status, response } = this.state;
    this.log();
    return {
      status,
      cut: this.cut,
      body,
      fields: { "x-ra": response["x-ra"] ?? [], "x-rb": response["x-rb"] ?? [] },
      upstream,
      failures: this.failures.sort(),
      lines: this.lines,
      ctx,
      variables,
    };
  }
}

function problem(status: number): Answer {
  return { status, body: PROBLEM };
}

/** A problem has more than a hundred bytes. */
function lengthOf(body: string): number {
  return body.replace(PROBLEM, " ".repeat(120)).length;
}

/** One phase's way through one body. */
class BodyModel {
  readonly model: Model;
  readonly phase: Phase;
  /** Those that have failed open. */
  readonly out = new Set<ChainMember>();
  readonly changers = new Set<ChainMember>();
  off = false;
  begun = false;
  ends = 0;
  /** What is collected for those that want the whole. */
  collected: string | undefined = "";

  constructor(model: Model, phase: Phase) {
    this.model = model;
    this.phase = phase;
  }

  filter(piece: string, last: boolean): string {
    const { model, phase } = this;
    const handlers = model.handlersOf(phase);
    if (handlers.length === 0 || this.off || (piece === "" && !last)) return piece;
    const limits = handlers.map((one) => this.#limitOf(one)).filter((one) => one !== undefined);
    if (limits.length > 0 && this.collected !== undefined) {
      this.collected += piece;
      if (!last && lengthOf(this.collected) <= Math.max(...limits)) return "";
      piece = this.collected;
      this.collected = undefined;
    }
    const status = model.wholeCall(phase, handlers);
    if (status !== undefined) {
      this.off = true;
      model.cut = status !== 0;
      return piece;
    }
    const isFirst = !this.begun;
    this.begun = true;
    const atFirst = structuredClone(model.state);
    const { ends } = model;
    const isChanged = this.changers.size > 0;
    const told = model.failures.length;
    if (isFirst) this.ends = ends;
    else if (this.ends !== ends) return this.#ended(handlers, piece, isChanged);
    let text = piece;
    for (const member of handlers) {
      if (this.out.has(member)) continue;
      const before = structuredClone(model.state);
      const isTooLong = isFirst && lengthOf(piece) > (this.#limitOf(member) ?? Infinity);
      const after = isTooLong ? undefined : this.#one(member, text, isFirst, last);
      if (model.ends !== ends) {
        model.state = atFirst;
        // What the call had to say goes with its answer.
        model.failures.length = told;
        return this.#ended(handlers, piece, isChanged);
      }
      if (after !== undefined) {
        text = after;
        continue;
      }
      model.fail(member, phase);
      model.state = before;
      this.out.add(member);
      if (policyOf(member, phase, "onError") === 0 && !this.changers.has(member)) continue;
      model.cut = true;
      return "";
    }
    return text;
  }

  /** The environment has ended that had the body's beginning. */
  #ended(handlers: readonly ChainMember[], piece: string, isChanged: boolean): string {
    this.off = true;
    const status = this.model.failWhole(this.phase, handlers);
    this.model.cut = status !== 0 || isChanged;
    return piece;
  }

  #limitOf({ spec }: ChainMember): number | undefined {
    return this.phase === "bodyFilter" ? spec.bufferResponse?.maxBytes : undefined;
  }

  /** @returns the piece then; undefined: it has failed. */
  #one(member: ChainMember, piece: string, isFirst: boolean, last: boolean): string | undefined {
    const { model, phase } = this;
    let text = piece;
    let isChanged = false;
    const uncarriable = new Uncarriable(model, member, phase);
    for (const step of model.stepsOf(member, phase)) {
      if (step[0] === "exit process" && isFirst) model.ends++;
      if (step[0] === "fail" && (step[1] === "first" ? isFirst : last)) return undefined;
      if (step[0] === "edit" && (step[1] === "each" ? text !== "" : last)) {
        text += `(${member.name} ${step[1]})`;
        isChanged = true;
      } else if (isFirst && (step[0] === "ctx" || step[0] === "push")) {
        uncarriable.change(step);
        changeState(model.state, step);
      } else if (isFirst && step[0] === "uncarriable") uncarriable.set(step[1]);
    }
    uncarriable.leave();
    if (isChanged) this.changers.add(member);
    return text;
  }
}

/** @returns what must come of it. */
export function expected(chain: readonly ChainMember[], scripts: Scripts, start: Start): Expected {
  return new Model(chain, scripts, start).run();
}
