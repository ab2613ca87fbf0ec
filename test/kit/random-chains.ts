/**
 * Chains of scripted plugins made up at random, what comes of a request through one of them in the
 * kit, and how that is compared with the model.
 */
import fc from "fast-check";
import type { Phase, Policies, Policy } from "resty-ts";
import { testChain, type TestResult } from "../../src/testing/index.ts";
import { HELD_MS } from "./held-timers.ts";
import { type ChainMember, type Expected, PROBLEM, type Start } from "./policy-model.ts";
import {
  encodeScripts,
  type Late,
  PHASES,
  REFUSED,
  type Script,
  scripted,
  type ScriptedSpec,
  type Scripts,
  type Step,
  UNCARRIABLE,
  WRONG,
} from "./scripted.ts";

export const SEED = 20_261_129;
/** Longer than a handler's own, and held as those are. */
export const PHASE_DEADLINE_MS = HELD_MS + 900;

const rarely = <T>(arbitrary: fc.Arbitrary<T>, freq = 3): fc.Arbitrary<T | undefined> =>
  fc.option(arbitrary, { nil: undefined, freq });

/** Without what is undefined. */
function present<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]?: Exclude<T[K], undefined> };
}

const policy: fc.Arbitrary<Policy> = fc.constantFrom<Policy>("open", "open", "closed", 418, 451);
const policies = fc
  .record({ onError: rarely(policy), onTimeout: rarely(policy), onOverload: rarely(policy, 1) })
  .map(present) as fc.Arbitrary<Policies>;
const timeoutMs = rarely(fc.integer({ min: HELD_MS, max: HELD_MS + 9 }));
const phasePolicies = fc
  .tuple(policies, timeoutMs)
  .map(([own, ms]) => (ms === undefined ? own : { ...own, timeoutMs: ms }));
/** Its limits are shorter and longer than the bodies that there are. */
const bufferResponse = rarely(
  fc.constantFrom(4, 60, 1000).map((maxBytes) => ({ maxBytes })),
  4,
);
const priority = rarely(fc.integer({ min: -1, max: 1 }), 2);
const text = fc.constantFrom("1", "2", "3");
const responseName = fc.constantFrom("x-ra", "x-rb");

export const spec: fc.Arbitrary<ScriptedSpec> = fc
  .record({
    phases: fc.oneof(
      { weight: 2, arbitrary: fc.constant<Phase[]>(["access"]) },
      {
        weight: 3,
        arbitrary: fc.subarray(
          PHASES.filter((phase) => phase !== "content"),
          { minLength: 1 },
        ),
      },
      { weight: 1, arbitrary: fc.subarray([...PHASES], { minLength: 1 }) },
    ),
    priority,
    bufferResponse,
    responseHeaders: rarely(
      fc.dictionary(responseName, fc.option(text, { nil: null }), {
        noNullPrototype: true,
      }),
    ),
    policies: rarely(policies, 1),
    options: rarely(
      fc.dictionary(fc.constantFrom(...PHASES), phasePolicies, {
        maxKeys: 2,
        noNullPrototype: true,
      }),
      1,
    ),
  })
  .map(({ bufferResponse: own, ...others }) => {
    const buffers = own !== undefined && others.phases.includes("bodyFilter");
    return present({
      ...others,
      bufferResponse: buffers ? own : undefined,
    }) as unknown as ScriptedSpec;
  });

export const memberOptions = fc
  .record({ policies, timeoutMs, priority })
  .map(({ policies: own, ...others }) => ({ ...own, ...present(others) }));

// Scripts ---------------------------------------------------------------------------------------

const deleted = fc.option(text, { nil: null, freq: 4 });
const requestName = fc.constantFrom("x-a", "x-b");
const stringKey = fc.constantFrom("c1", "c2");
const is = <T extends string>(word: T): fc.Arbitrary<T> => fc.constant(word);

const ctxChange = fc.oneof(
  fc.tuple(is("ctx"), stringKey, deleted),
  fc.tuple(is("push"), is("list"), text),
);
const responseChange = fc.oneof(
  fc.tuple(is("response"), responseName, deleted),
  fc.tuple(is("append to response"), responseName, text),
);
const change = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(is("request"), requestName, deleted) },
  { weight: 2, arbitrary: fc.tuple(is("append to request"), requestName, text) },
  { weight: 3, arbitrary: responseChange },
  { weight: 2, arbitrary: fc.tuple(is("variable"), fc.constantFrom("v1", "v2"), text) },
  { weight: 3, arbitrary: ctxChange },
  { weight: 1, arbitrary: fc.tuple(is("uri"), fc.constantFrom("/p", "/q?r=1")) },
  { weight: 1, arbitrary: fc.tuple(is("body"), fc.constantFrom("new", "other body")) },
);
const exit = fc.tuple(
  is("exit"),
  fc.constantFrom(200, 401, 403, 429),
  fc.option(fc.constantFrom("refused", "no"), { nil: null }),
);
const late: fc.Arbitrary<Late> = fc.oneof(
  // To delete a key that is not there is no change.
  { weight: 3, arbitrary: change.filter(([what, , value]) => what !== "ctx" || value !== null) },
  { weight: 1, arbitrary: exit },
  { weight: 1, arbitrary: fc.tuple(is("ask"), fc.constantFrom("variable", "subrequest")) },
);
const uncarriable = fc.tuple(
  is("uncarriable"),
  fc.constantFrom("c1", "c2", "list"),
  fc.constantFrom(...(Object.keys(UNCARRIABLE) as (keyof typeof UNCARRIABLE)[])),
);
const refused = fc.tuple(
  is("refused"),
  fc.constantFrom(...(Object.keys(REFUSED) as (keyof typeof REFUSED)[])),
);
const wrong = fc.tuple(
  is("return"),
  fc.constantFrom(...(Object.keys(WRONG) as (keyof typeof WRONG)[])),
);
const after = fc.tuple(is("after"), late);

const waitingStep = fc.oneof(
  { weight: 12, arbitrary: change },
  {
    weight: 3,
    arbitrary: fc.tuple(
      is("ask"),
      fc.constantFrom("variable", "shared", "subrequest", "body", "two"),
    ),
  },
  { weight: 2, arbitrary: exit },
  { weight: 1, arbitrary: fc.tuple(is("respond"), fc.constantFrom(200, 403), text, deleted) },
  { weight: 2, arbitrary: uncarriable },
  { weight: 1, arbitrary: fc.tuple(is("wait")) },
  { weight: 2, arbitrary: fc.tuple(is("throw")) },
  { weight: 1, arbitrary: refused },
  { weight: 2, arbitrary: fc.tuple(is("undefined variable")) },
  { weight: 1, arbitrary: wrong },
  { weight: 1, arbitrary: fc.tuple(is("mistake")) },
  { weight: 2, arbitrary: fc.tuple(is("hang"), fc.option(late, { nil: null })) },
  { weight: 1, arbitrary: after },
) as fc.Arbitrary<Step>;
const filterStep = fc.oneof(
  { weight: 4, arbitrary: responseChange },
  { weight: 1, arbitrary: fc.tuple(is("status"), fc.constantFrom(203, 404)) },
  { weight: 2, arbitrary: ctxChange },
  { weight: 1, arbitrary: uncarriable },
  { weight: 1, arbitrary: fc.tuple(is("throw")) },
  { weight: 1, arbitrary: wrong },
  {
    weight: 1,
    arbitrary: fc.tuple(
      is("refused"),
      fc.constantFrom("name", "value", "hop", "status", "request", "exit"),
    ),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(is("after"), fc.oneof(responseChange, ctxChange))
      .filter(([, [what, , value]]) => what !== "ctx" || value !== null),
  },
) as fc.Arbitrary<Step>;
const bodyStep = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(is("edit"), fc.constantFrom("each", "last")) },
  {
    weight: 2,
    arbitrary: fc.tuple(
      is("fail"),
      fc.constantFrom("first", "last"),
      fc.constantFrom("throw", "return"),
    ),
  },
  { weight: 1, arbitrary: ctxChange },
  { weight: 1, arbitrary: uncarriable },
) as fc.Arbitrary<Step>;
const logStep = fc.oneof(
  { weight: 1, arbitrary: fc.tuple(is("throw")) },
  { weight: 1, arbitrary: fc.tuple(is("wait")) },
  { weight: 1, arbitrary: fc.tuple(is("ask"), is("shared")) },
) as fc.Arbitrary<Step>;

const steps = (step: fc.Arbitrary<Step>, maxLength: number): fc.Arbitrary<Step[]> =>
  fc.oneof(
    { weight: 1, arbitrary: fc.constant<Step[]>([]) },
    { weight: 2, arbitrary: fc.array(step, { maxLength }) },
  );

/** For all phases: what the plugin has no handler for is nobody's. */
export const script: fc.Arbitrary<Script> = fc.record({
  rewrite: steps(waitingStep, 3),
  access: steps(waitingStep, 5),
  beforeProxy: steps(waitingStep, 3),
  content: steps(waitingStep, 3),
  headerFilter: steps(filterStep, 3),
  bodyFilter: steps(bodyStep, 3),
  delayedBodyFilter: steps(bodyStep, 2),
  log: steps(logStep, 2),
});

export const start: fc.Arbitrary<Omit<Start, "overload">> = fc.record({
  uri: fc.constant("/start?x=1"),
  body: fc.constantFrom("", "sent"),
  reply: fc.record({
    status: fc.constantFrom(200, 404),
    body: fc.constantFrom("", "from upstream"),
    headers: fc.dictionary(responseName, fc.constant("up"), { noNullPrototype: true }),
  }),
});

/** The scripts of a chain's members, and no more than they have handlers for. */
export function scriptsOf(
  members: readonly ChainMember[],
  scripts: readonly Script[],
  isFor: (member: ChainMember, phase: Phase, step: Step) => boolean = () => true,
): Scripts {
  return Object.fromEntries(
    members.map((one, i) => [
      one.name,
      Object.fromEntries(
        one.spec.phases
          .map((phase) => {
            const own = scripts[i]?.[phase] ?? [];
            return [phase, own.filter((step) => isFor(one, phase, step))] as const;
          })
          .filter(([, own]) => own.length > 0),
      ),
    ]),
  );
}

const member = fc.record({ spec, options: memberOptions, script });

export const chain = fc
  .record({
    members: fc.array(member, { minLength: 1, maxLength: 6 }),
    start,
    overload: fc.oneof(
      { weight: 9, arbitrary: fc.constant<Phase[]>([]) },
      {
        weight: 1,
        arbitrary: fc.subarray(
          PHASES.filter((phase) => phase !== "log"),
          { maxLength: 2 },
        ),
      },
    ),
  })
  .map(({ members, start: given, overload }) => {
    const named = members.map((one, i): ChainMember => ({ ...one, name: `s${i + 1}` }));
    return {
      members: named.map(({ name, spec: own, options }): ChainMember => ({
        name,
        spec: own,
        options,
      })),
      scripts: scriptsOf(
        named,
        members.map((one) => one.script),
      ),
      start: { ...given, overload },
    };
  });

// What comes of it ------------------------------------------------------------------------------

export function comparableBody(body: string): string {
  return body.replace(/^\{[^}]*"request_id":"[0-9a-f]{32}"[^}]*\}/, PROBLEM);
}

function outcomeOf({ response, upstreamRequest, ...result }: TestResult): Expected {
  const all = (name: string): string => upstreamRequest!.headers.getAll(name).join();
  return {
    status: response.status,
    cut: response.cut,
    body: comparableBody(response.text()),
    fields: {
      "x-ra": response.headers.getAll("x-ra"),
      "x-rb": response.headers.getAll("x-rb"),
    },
    upstream: upstreamRequest
      ? { uri: upstreamRequest.uri, body: upstreamRequest.text(), a: all("x-a"), b: all("x-b") }
      : null,
    failures: result.errors
      .map(({ plugin, phase }) => `${plugin}, ${phase.replace(", in waitUntil", "")}`)
      .sort(),
    // A client's mistake is none of the handlers' lines.
    lines: result.log
      .filter(({ level }) => level === "notice")
      .map(({ plugin, text: line }) => `[${plugin}] ${line}`),
    ctx: result.ctx,
    variables: { v1: result.vars["v1"] ?? null, v2: result.vars["v2"] ?? null },
  };
}

export async function runInKit(
  members: readonly ChainMember[],
  scripts: Scripts,
  { uri, body, reply, overload }: Start,
): Promise<Expected> {
  const kit = await testChain(
    members.map(({ name, spec: own, options }) => ({ plugin: scripted(name, own), options })),
    {
      shared: ["counts"],
      timeoutMs: PHASE_DEADLINE_MS,
      vars: { v1: "", v2: "" },
      locations: { "/inner": () => ({ body: "inner" }) },
      upstream: () => reply,
    },
  );
  const result = await kit.request({
    url: uri,
    headers: { "X-Script": encodeScripts(scripts) },
    ...(body === "" ? {} : { body }),
    overload,
  });
  await kit.settled();
  await kit.close();
  return outcomeOf(result);
}

/** What is cut says only that it is: how much the client has got by then is the network's. */
export function comparable(outcome: Expected): unknown {
  if (!outcome.cut) return outcome;
  return { ...outcome, status: 0, body: "", fields: {} };
}

// Shapes, for nginx -----------------------------------------------------------------------------

/** A chain, for many scripts. */
export interface Shape {
  readonly members: readonly ChainMember[];
}

const POOL = 30;

function withoutLog(own: ScriptedSpec): ScriptedSpec {
  const phases = own.phases.filter((phase) => phase !== "log");
  return { ...own, phases: phases.length > 0 ? phases : ["access"] };
}

/** So many chains of a few plugins. */
export function shapes(count: number): Shape[] {
  const pool = fc
    .sample(spec, { seed: SEED, numRuns: POOL })
    // Log entries travel in batches, for which the test would wait each time.
    .map((own, i) => ({ name: `s${i + 1}`, spec: i % 10 === 0 ? own : withoutLog(own) }));
  const one = fc
    .tuple(
      fc.shuffledSubarray(pool, { minLength: 1, maxLength: 6 }),
      fc.array(memberOptions, { minLength: 6, maxLength: 6 }),
    )
    .map(([plugins, options]) => ({
      members: plugins.map((own, i): ChainMember => ({ ...own, options: options[i]! })),
    }));
  const made = fc.sample(one, { seed: SEED, numRuns: count });
  // A failure shrinks to the shortest chain.
  return made.sort((a, b) => a.members.length - b.members.length);
}
