/**
 * Chains made up at random do in nginx what the model says: no decision is lost, none invented.
 * RTS_CHAINS says how many requests.
 */
import assert from "node:assert/strict";
import { closeSync, fstatSync, openSync, readSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import fc from "fast-check";
import type { Case } from "../../kit/case.ts";
import { hostOf } from "../../kit/cases.ts";
import { KitUpstream, optionsFor, type Places, placesIn, send, told } from "../../kit/nginx.ts";
import {
  comparable,
  comparableBody,
  script,
  scriptsOf,
  SEED,
  shapes,
  type Shape,
  start,
} from "../../kit/random-chains.ts";
import {
  type ChainMember,
  expected,
  type Expected,
  hasDeadline,
  policyOf,
  type Start,
} from "../../kit/policy-model.ts";
import {
  encodeScripts,
  type Script,
  scripted,
  type Scripts,
  type Step,
} from "../../kit/scripted.ts";
import type { Phase } from "resty-ts";
import type { UpstreamResponse } from "../../../src/testing/index.ts";
import { until } from "../../support/deadline.js";
import { type Nginx, withNginx } from "../../support/nginx.js";
import { makeFolder, PROJECT_ROOT } from "../../support/project.js";

const RUNS = Number(process.env["RTS_CHAINS"] ?? 300);
const SHAPES = Math.min(400, Math.max(40, RUNS / 5));

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64");

const caseOf = ({ members }: Shape): Case => ({
  title: "at random",
  chain: members.map(({ name, spec, options }) => ({ plugin: scripted(name, spec), options })),
  vars: { v1: "", v2: "" },
  locations: { "/inner": () => ({ body: "inner" }) },
  upstream: ({ headers }) =>
    JSON.parse(Buffer.from(headers.get("x-reply")!, "base64").toString()) as UpstreamResponse,
  expect: {},
});

/** What is at the request's end, as a line of the log. */
const STATE = `
  local at, c = ngx.ctx, require "cjson"
  ngx.log(ngx.NOTICE, "resty.ts: [state] ", c.encode {
    { c1 = at.c1, c2 = at.c2, list = at.list }, { v1 = ngx.var.v1, v2 = ngx.var.v2 } })`;

/** What has been written to the log since it was last read. */
class Tail {
  readonly #file: number;
  #at: number;

  constructor(nginx: Nginx) {
    this.#file = openSync(join(nginx.prefix, "logs/error.log"), "r");
    this.#at = fstatSync(this.#file).size;
  }

  read(): string {
    const bytes = Buffer.alloc(fstatSync(this.#file).size - this.#at);
    readSync(this.#file, bytes, 0, bytes.length, this.#at);
    return bytes.toString("latin1");
  }

  skip(): void {
    this.#at = fstatSync(this.#file).size;
  }

  close(): void {
    closeSync(this.#file);
  }
}

/** What nobody waited for. */
const REPORTED = /resty\.ts: (s\d+) (\w+)(?:, in waitUntil)? failed: /g;

function failuresIn(log: string): string[] {
  const reported = [...log.matchAll(REPORTED)].map(([, plugin, phase]) => `${plugin!}, ${phase!}`);
  return [...told(log).failures, ...reported].sort();
}

function outcomeIn(
  log: string,
  reply: Awaited<ReturnType<typeof send>>,
  upstream: ReturnType<KitUpstream["seen"]["get"]>,
): Expected {
  const lines = told(log).lines.map((line) => line.replace(/ while [a-z ]+$/, ""));
  const state = lines.find((line) => line.startsWith("[state] ")) ?? "[state] [{},{}]";
  const [ctx, variables] = JSON.parse(state.slice(8)) as [Expected["ctx"], Expected["variables"]];
  const values = (pairs: readonly (readonly [string, string])[], name: string): string[] =>
    pairs.filter(([key]) => key.toLowerCase() === name).map(([, value]) => value);
  return {
    status: reply.status,
    cut: reply.cut,
    body: comparableBody(Buffer.from(reply.body).toString("latin1")),
    fields: { "x-ra": values(reply.pairs, "x-ra"), "x-rb": values(reply.pairs, "x-rb") },
    upstream: upstream
      ? {
          uri: upstream.uri,
          body: upstream.body,
          a: values(upstream.fields, "x-a").join(),
          b: values(upstream.fields, "x-b").join(),
        }
      : null,
    failures: failuresIn(log),
    lines: lines.filter((line) => OF_HANDLERS.test(line)),
    ctx,
    variables,
  };
}

const OF_HANDLERS = /^\[s\d+\] \w+ \[/;

class Bench {
  readonly #nginx: Nginx;
  readonly #upstream: KitUpstream;
  readonly #places: Places;
  readonly #tail: Tail;

  constructor(nginx: Nginx, upstream: KitUpstream, places: Places) {
    this.#nginx = nginx;
    this.#upstream = upstream;
    this.#places = places;
    this.#tail = new Tail(nginx);
  }

  async run(one: Case, host: string, awaited: Expected): Promise<Expected> {
    this.#upstream.seen.delete(host);
    this.#tail.skip();
    const reply = await send(this.#places.front, one, host);
    // What comes of late calls is in the log before the barrier's line.
    await this.#nginx.ask("/barrier");
    await until(
      "the error log has what it gets of the request",
      () => {
        const log = this.#tail.read();
        const { failures, lines } = outcomeIn(log, reply, undefined);
        return (
          log.includes("[barrier]") &&
          log.includes("[state]") &&
          failures.length >= awaited.failures.length &&
          lines.length >= awaited.lines.length
        );
      },
      2000,
    ).catch(() => undefined); // the comparison says it better
    return outcomeIn(this.#tail.read(), reply, this.#upstream.seen.get(host));
  }

  close(): void {
    this.#tail.close();
  }
}

/**
 * A handler without a deadline of its own is late when the phase is, by the clock: rarely, so that
 * it takes little time; and only when no other comes after it, for which there is none left.
 */
const isFor =
  (which: number) =>
  (member: ChainMember, phase: Phase, [what]: Step): boolean =>
    what !== "hang" ||
    hasDeadline(member, phase) ||
    (which % 10 === 0 && policyOf(member, phase, "onTimeout") !== 0);

const HARMLESS: ReadonlySet<string> = new Set([
  ...["request", "response", "append to request", "append to response", "variable", "ctx", "push"],
  ...["uri", "body", "ask", "wait", "edit"],
]);

/** The environment ends in the phase of one of the chain's handlers, where nothing else fails. */
function endingAt({ members }: Shape, scripts: Scripts, at: number): Scripts {
  const places = members.flatMap(({ name, spec: { phases } }) =>
    phases.filter((phase) => phase !== "log").map((phase) => [name, phase] as const),
  );
  const [dying, where] = places[at % Math.max(1, places.length)] ?? [];
  if (where === undefined) return scripts;
  return Object.fromEntries(
    members.map(({ name }): [string, Script] => {
      const own = (scripts[name]?.[where] ?? []).filter(([what]) => HARMLESS.has(what));
      const steps: Step[] = name === dying ? [...own, ["exit process"]] : own;
      return [name, { ...scripts[name], [where]: steps }];
    }),
  );
}

function writePlugins(folder: string, made: readonly Shape[]): void {
  const members = new Map(made.flatMap((one) => one.members.map((own) => [own.name, own.spec])));
  for (const [name, spec] of members) {
    writeFileSync(
      join(folder, `${name}.ts`),
      `import { scripted } from ${JSON.stringify(join(PROJECT_ROOT, "test/kit/scripted.ts"))};
       export default scripted(${JSON.stringify(name)}, ${JSON.stringify(spec)});`,
    );
  }
  writeFileSync(
    join(folder, "barrier.ts"),
    `import { definePlugin } from "resty-ts";
     import { setImmediate as turn } from "node:timers/promises";
     export default definePlugin({
       name: "barrier",
       async access(ctx) {
         for (let i = 0; i < 5; i++) await turn();
         ctx.log.notice("is passed");
         return ctx.exit(200);
       },
     });`,
  );
}

type Runtime = "embedded" | "process";

/** An nginx that serves these chains. */
async function withChains(
  runtime: Runtime,
  made: readonly Shape[],
  body: (run: (which: number, scripts: Scripts, begin: Start) => Promise<void>) => Promise<void>,
): Promise<void> {
  const folder = makeFolder("chains");
  const places = placesIn(folder);
  writePlugins(folder, made);
  const cases = made.map(caseOf);
  const upstream = new KitUpstream(cases);
  await upstream.listen(places.back);
  const options = optionsFor(cases, places, { ts: { runtime, plugins: folder }, afterLog: STATE });
  options.http += "large_client_header_buffers 4 64k;";
  options.locations = {
    "= /barrier": `access_by_lua_block { require("resty.ts.http").access("barrier") }`,
  };
  try {
    await withNginx(options, async (nginx) => {
      const bench = new Bench(nginx, upstream, places);
      try {
        await body(async (which, scripts, begin) => {
          const should = expected(made[which]!.members, scripts, begin);
          const request = {
            url: begin.uri,
            headers: [
              ["X-Script", encodeScripts(scripts)],
              ["X-Reply", encode(begin.reply)],
            ],
            ...(begin.body === "" ? {} : { body: begin.body }),
          } as const;
          const actual = await bench.run({ ...cases[which]!, request }, hostOf(which), should);
          assert.deepEqual(comparable(actual), comparable(should));
        });
      } finally {
        bench.close();
      }
    });
  } finally {
    await upstream.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

const made = shapes(SHAPES);
const request = fc.record({
  which: fc.nat({ max: made.length - 1 }),
  scripts: fc.array(script, { minLength: 6, maxLength: 6 }),
  start,
});

for (const runtime of ["embedded", "process"] as const) {
  describe(`chains of plugins in nginx, ${runtime}`, () => {
    test("do what their policies say", () =>
      withChains(runtime, made, (run) =>
        fc.assert(
          fc.asyncProperty(request, async ({ which, scripts: all, start: given }) => {
            const scripts = scriptsOf(made[which]!.members, all, isFor(which));
            await run(which, scripts, { ...given, overload: [] });
          }),
          { seed: SEED, numRuns: RUNS, includeErrorInReport: true },
        ),
      ));

    // Each in an nginx of its own, as environments that end one after the other are a crash loop.
    test("do what their policies say when the environment ends under a handler", () =>
      fc.assert(
        fc.asyncProperty(request, fc.nat(), async ({ which, scripts: all, start: given }, at) => {
          const shape = made[which]!;
          const scripts = endingAt(shape, scriptsOf(shape.members, all, isFor(1)), at);
          await withChains(runtime, [shape], (run) => run(0, scripts, { ...given, overload: [] }));
        }),
        { seed: SEED, numRuns: Math.ceil(RUNS / 30), includeErrorInReport: true },
      ));
  });
}
