/**
 * Plugins that do what the request's X-Script says, for chains made up at random; and the steps of
 * which scripts are made.
 */
import {
  type HeaderFilterContext,
  type BodyFilterContext,
  definePlugin,
  type Phase,
  type PhaseOptions,
  type Plugin,
  type Policies,
  type RequestContext,
} from "resty-ts";
import { passDeadline } from "./held-timers.ts";

export const WAITING = ["rewrite", "access", "beforeProxy", "content"] as const;
export const BODY_PHASES = ["bodyFilter", "delayedBodyFilter"] as const;
export const PHASES = [...WAITING, "headerFilter", ...BODY_PHASES, "log"] as const;

/** null deletes. */
export type Change =
  | readonly ["request" | "response", name: string, value: string | null]
  | readonly ["append to request" | "append to response", name: string, value: string]
  | readonly ["variable", name: string, value: string | null]
  | readonly ["ctx", key: string, value: string | null]
  /** In place, in an array. */
  | readonly ["push", key: string, value: string]
  | readonly ["uri" | "body", value: string]
  | readonly ["status", value: number];

export type Question = readonly ["ask", "variable" | "shared" | "subrequest" | "body" | "two"];
export type Exit = readonly ["exit", status: number, body: string | null];

export type Step =
  | Change
  | Question
  | Exit
  /** Returns a Response, with a field or without. */
  | readonly ["respond", status: number, body: string, field: string | null]
  | readonly ["uncarriable", key: string, what: keyof typeof UNCARRIABLE]
  | readonly ["wait"]
  | readonly ["throw"]
  | readonly ["refused", keyof typeof REFUSED]
  /** nginx finds it out. */
  | readonly ["undefined variable"]
  | readonly ["return", keyof typeof WRONG]
  /** Finds that the client is wrong: its body is not a form. */
  | readonly ["mistake"]
  /** Waits for the deadline, and then does something more. */
  | readonly ["hang", Late | null]
  /** Something that is done when the handler has ended. */
  | readonly ["after", Late]
  /** The environment ends. */
  | readonly ["exit process"]
  /** bodyFilter: adds to each piece that is not empty, or to the last. */
  | readonly ["edit", "each" | "last"]
  | readonly ["fail", "first" | "last", "throw" | "return"];

export type Late = Change | Question | Exit;

export type Script = Readonly<Partial<Record<Phase, readonly Step[]>>>;

/** By plugin. */
export type Scripts = Readonly<Record<string, Script>>;

export interface ScriptedSpec {
  readonly phases: readonly Phase[];
  readonly priority?: number;
  /** null deletes. */
  readonly responseHeaders?: Readonly<Record<string, string | null>>;
  readonly bufferResponse?: { readonly maxBytes: number };
  readonly policies?: Policies;
  readonly options?: Readonly<Partial<Record<Phase, PhaseOptions>>>;
}

export const UNCARRIABLE = {
  function: () => () => 1,
  surrogate: () => "a\ud800",
  map: () => new Map([["a", 1]]),
  symbols: () => ({ [Symbol("s")]: 1 }),
  inside: () => ({ deep: [{ er: () => 1 }] }),
  cycle: () => {
    const ring: Record<string, unknown> = {};
    ring["ring"] = ring;
    return ring;
  },
} as const;

export const REFUSED = {
  name: (ctx: HeaderFilterContext) => ctx.response.headers.set("x y", "1"),
  value: (ctx: HeaderFilterContext) => ctx.response.headers.set("x-ra", "1\r\nx-rb: 2"),
  hop: (ctx: HeaderFilterContext) => ctx.response.headers.set("connection", "close"),
  status: (ctx: HeaderFilterContext) => ((ctx.response as { status: number }).status = 99),
  request: (ctx: HeaderFilterContext) =>
    (ctx as RequestContext).request.headers.set("x-a", "a character \u20ac that is no byte"),
  uri: (ctx: HeaderFilterContext) => ((ctx as RequestContext).request.uri = "no/slash"),
  exit: (ctx: HeaderFilterContext) => (ctx as RequestContext).exit(600),
} as const;

export const WRONG = { number: 42, null: null, object: {}, true: true } as const;

function scriptOf(ctx: HeaderFilterContext, name: string): Script {
  const given = ctx.request.headers.get("x-script");
  if (given === null) return {};
  return (JSON.parse(Buffer.from(given, "base64").toString()) as Scripts)[name] ?? {};
}

export const encodeScripts = (scripts: Scripts): string =>
  Buffer.from(JSON.stringify(scripts)).toString("base64");

/** What a handler sees of what those before it have done. */
function look(ctx: HeaderFilterContext, phase: Phase): void {
  const { request } = ctx;
  const seen = [
    request.headers.getAll("x-a").join(),
    request.headers.getAll("x-b").join(),
    request.uri,
    ...["c1", "c2", "list"].map((key) => ctx.ctx[key] ?? null),
  ];
  ctx.log.notice(phase, JSON.stringify(seen));
}

function change(ctx: HeaderFilterContext, step: Change): void {
  const { request, var: variables } = ctx as RequestContext;
  const [what, first, second] = step;
  switch (what) {
    case "request":
      if (second === null) request.headers.delete(first);
      else request.headers.set(first, second);
      break;
    case "response":
      if (second === null) ctx.response.headers.delete(first);
      else ctx.response.headers.set(first, second);
      break;
    case "append to request":
      request.headers.append(first, second);
      break;
    case "append to response":
      ctx.response.headers.append(first, second);
      break;
    case "variable":
      variables.set(first, second);
      break;
    case "ctx":
      if (second === null) Reflect.deleteProperty(ctx.ctx, first);
      else ctx.ctx[first] = second;
      break;
    case "push":
      if (Array.isArray(ctx.ctx[first])) (ctx.ctx[first] as string[]).push(second);
      else ctx.ctx[first] = [second];
      break;
    case "uri":
      request.uri = first;
      break;
    case "body":
      request.setBody(first);
      break;
    case "status":
      (ctx.response as { status: number }).status = first;
      break;
  }
}

async function ask(ctx: RequestContext, [, what]: Question): Promise<void> {
  switch (what) {
    case "variable":
      await ctx.var.get("request_method");
      break;
    case "shared":
      await ctx.shared("counts").get("x");
      break;
    case "subrequest":
      await ctx.subrequest("/inner");
      break;
    case "body":
      await ctx.request.bytes();
      break;
    case "two":
      await Promise.all([ctx.var.get("request_method"), ctx.shared("counts").get("x")]);
      break;
  }
}

function late(ctx: RequestContext, step: Late): unknown {
  if (step[0] === "push") {
    try {
      change(ctx, step);
    } catch {
      // It may be frozen. Nobody sees it in either case.
    }
    return undefined;
  }
  if (step[0] === "ask") return ask(ctx, step);
  if (step[0] === "exit") return ctx.exit(step[1], step[2] ?? undefined);
  return change(ctx, step);
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

async function hang(ctx: RequestContext, then: Late | null): Promise<void> {
  const aborted = new Promise<void>((resolve) => {
    ctx.signal.addEventListener("abort", () => resolve(), { once: true });
  });
  await turn();
  passDeadline();
  await aborted;
  if (then !== null) await late(ctx, then);
}

/** Whoever waits for the handler's end. */
type AtEnd = (() => void)[];

/** @returns what the handler returns; a promise only where a step has to wait. */
function perform(ctx: RequestContext, steps: readonly Step[], atEnd: AtEnd, from = 0): unknown {
  for (let i = from; i < steps.length; i++) {
    const step = steps[i]!;
    let pending: Promise<unknown> | undefined;
    switch (step[0]) {
      case "ask":
        pending = ask(ctx, step);
        break;
      case "exit":
        ctx.exit(step[1], step[2] ?? undefined);
        break;
      case "respond":
        return new Response(step[2], {
          status: step[1],
          headers: step[3] === null ? {} : { "x-ra": step[3] },
        });
      case "uncarriable":
        ctx.ctx[step[1]] = UNCARRIABLE[step[2]]();
        break;
      case "wait":
        pending = turn();
        break;
      case "throw":
        throw new Error("as the script says");
      case "refused":
        REFUSED[step[1]](ctx);
        break;
      case "undefined variable":
        ctx.var.set("never_defined", "1");
        break;
      case "return":
        return WRONG[step[1]];
      case "mistake":
        pending = ctx.request.formData();
        break;
      case "hang":
        return hang(ctx, step[1]);
      case "after": {
        const ended = new Promise<void>((resolve) => atEnd.push(resolve));
        ctx.waitUntil(ended.then(turn).then(() => late(ctx, step[1])));
        break;
      }
      case "exit process":
        process.exit(3);
        break;
      case "edit":
      case "fail":
        break; // bodies'
      default:
        change(ctx, step);
    }
    if (pending !== undefined) return pending.then(() => perform(ctx, steps, atEnd, i + 1));
  }
  return undefined;
}

function handle(name: string, phase: Phase): (ctx: HeaderFilterContext) => unknown {
  return (ctx) => {
    look(ctx, phase);
    const atEnd: AtEnd = [];
    const end = (): void => {
      for (const resolve of atEnd) resolve();
    };
    let result: unknown;
    try {
      result = perform(ctx as RequestContext, scriptOf(ctx, name)[phase] ?? [], atEnd);
    } finally {
      if (!(result instanceof Promise)) end();
    }
    return result instanceof Promise ? result.finally(end) : result;
  };
}

function filterBody(name: string, phase: Phase): (ctx: BodyFilterContext) => unknown {
  const key = `${name} ${phase} has begun`;
  return (ctx) => {
    const isFirst = !ctx.local.has(key);
    ctx.local.set(key, true);
    let text = Buffer.from(ctx.chunk).toString("latin1");
    let isChanged = false;
    for (const step of scriptOf(ctx as RequestContext & BodyFilterContext, name)[phase] ?? []) {
      const isNow = step[1] === "first" ? isFirst : ctx.last;
      if (step[0] === "exit process" && isFirst) process.exit(3);
      else if (step[0] === "fail" && isNow) {
        if (step[2] === "throw") throw new Error("as the script says");
        return 42;
      } else if (step[0] === "edit" && (step[1] === "each" ? text !== "" : ctx.last)) {
        text += `(${name} ${step[1]})`;
        isChanged = true;
      } else if (isFirst && (step[0] === "ctx" || step[0] === "push"))
        change(ctx as RequestContext & BodyFilterContext, step);
      else if (isFirst && step[0] === "uncarriable") ctx.ctx[step[1]] = UNCARRIABLE[step[2]]();
    }
    return isChanged ? Buffer.from(text, "latin1") : undefined;
  };
}

export function scripted(name: string, spec: ScriptedSpec): Plugin {
  const { phases, options, responseHeaders, ...others } = spec;
  const handlers = phases.map((phase) => {
    const isBody = (BODY_PHASES as readonly Phase[]).includes(phase);
    return [phase, isBody ? filterBody(name, phase) : handle(name, phase)] as const;
  });
  return definePlugin({
    name,
    ...others,
    ...(options === undefined ? {} : { phases: options }),
    ...(responseHeaders === undefined ? {} : { responseHeaders: () => responseHeaders }),
    ...(Object.fromEntries(handlers) as object),
  }) as Plugin;
}
