/**
 * What a case of the shared suite is, and what comes of it: in the kit and in nginx the same.
 *
 * Of what nginx adds by itself (Date, Server, Connection …) an outcome says nothing.
 */
import assert from "node:assert/strict";
import type { Plugin } from "../../src/sdk/index.ts";
import { type FieldsInit, testChain, type Upstream } from "../../src/testing/index.ts";
import { flatten } from "../../src/testing/fields.ts";
import type { MemberOptions } from "../../src/testing/types.ts";

export interface CaseMember {
  readonly plugin: Plugin;
  readonly conf?: Readonly<Record<string, unknown>>;
  readonly options?: MemberOptions;
}

export interface Case {
  /** A sentence that must hold. */
  readonly title: string;
  readonly chain: readonly CaseMember[];
  readonly request?: {
    readonly method?: string;
    readonly url?: string;
    readonly headers?: FieldsInit;
    readonly body?: string | Uint8Array;
  };
  readonly upstream?: Upstream;
  readonly locations?: Readonly<Record<string, Upstream>>;
  readonly vars?: Readonly<Record<string, string>>;
  /** What Lua code sets in ngx.ctx.from_lua. */
  readonly fromLua?: string;
  readonly expect: Expectation;
}

type Fields = Readonly<Record<string, readonly string[]>>;

export interface Outcome {
  readonly status: number;
  /** By lower-case name, in the order of the names. */
  readonly headers: Fields;
  readonly body: string;
  readonly cut: boolean;
  readonly upstream:
    | {
        readonly method: string;
        readonly uri: string;
        /** Without Host and Content-Length, in their order. */
        readonly fields: readonly (readonly [string, string])[];
        readonly length: string | null;
        readonly body: string;
      }
    | undefined;
  /** "plugin, phase" of what is in the error log. */
  readonly failures: readonly string[];
  /** Lines of ctx.log, and about the clients' mistakes. */
  readonly lines: readonly string[];
}

export interface Expectation {
  readonly status?: number;
  readonly headers?: Fields;
  /** Names that are not there. */
  readonly without?: readonly string[];
  readonly body?: string | RegExp;
  readonly json?: unknown;
  readonly cut?: boolean;
  /** null: it is not asked. */
  readonly upstream?: {
    readonly method?: string;
    readonly uri?: string;
    readonly fields?: readonly (readonly [string, string])[];
    readonly field?: Readonly<Record<string, string>>;
    readonly length?: string | null;
    readonly body?: string;
  } | null;
  readonly failures?: readonly string[];
  readonly lines?: readonly string[];
}

/** The dictionary that all cases have. */
export const SHARED = "counts";
export const TIMEOUT_MS = 2000;
export const BODY_BUFFER = 16_384;

/** nginx's own, or the connection's. */
const LEFT_OUT = new Set(["connection", "content-length", "date", "host", "server"]);

export function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("latin1");
}

export function groupFields(pairs: Iterable<readonly [string, string]>): Fields {
  const grouped: Record<string, string[]> = {};
  for (const [name, value] of pairs) {
    const lower = name.toLowerCase();
    if (["connection", "date", "keep-alive", "server", "transfer-encoding"].includes(lower))
      continue;
    (grouped[lower] ??= []).push(value);
  }
  return Object.fromEntries(Object.entries(grouped).sort(([a], [b]) => (a < b ? -1 : 1)));
}

export function upstreamOutcome(
  method: string,
  uri: string,
  pairs: readonly (readonly [string, string])[],
  body: Uint8Array,
): Outcome["upstream"] {
  return {
    method,
    uri,
    fields: pairs.filter(([name]) => !LEFT_OUT.has(name.toLowerCase())),
    length: pairs.find(([name]) => name.toLowerCase() === "content-length")?.[1] ?? null,
    body: latin1(body),
  };
}

/** The request's fields as both send them; a body's Content-Length comes after them. */
export function requestFields(one: Case, host: string): [string, string][] {
  const flat = flatten(one.request?.headers);
  const own = Array.from({ length: flat.length / 2 }, (_, i): [string, string] => [
    flat[2 * i]!,
    flat[2 * i + 1]!,
  ]);
  return [["Host", host], ...own, ["Connection", "close"]];
}

/**
 * Of a failure's answer: Lua gives an object's members in no order, and the request's id is another
 * each time. Filters may have changed its type, and the letters.
 */
export function comparable(body: string): string {
  return body.replace(/^\{[^}]*"request_id":"[0-9a-f]{32}"[^}]*\}/i, (json) => {
    const members = Object.entries(JSON.parse(json) as Record<string, unknown>);
    const others = members.filter(([name]) => name.toLowerCase() !== "request_id");
    return JSON.stringify(Object.fromEntries(others.sort()));
  });
}

/** A body filter fails as often as there are pieces: that is the network's. */
export function once(failures: readonly string[]): string[] {
  return [...new Set(failures)];
}

/** The line about a client's mistake, without what a Node's own parser says of it. */
export function refusalLine(plugin: string, text: string): string {
  return `[${plugin}] ${text.replace(/( malformed): .*/s, "$1")}`;
}

/** @param host the name by which nginx finds the case. */
export async function runInKit(one: Case, host: string): Promise<Outcome> {
  const { request = {}, upstream, locations, vars, fromLua } = one;
  const kit = await testChain(one.chain, {
    shared: [SHARED],
    timeoutMs: TIMEOUT_MS,
    clientBodyBufferSize: BODY_BUFFER,
    vars: vars ?? {},
    locations: locations ?? {},
    ...(upstream === undefined ? {} : { upstream }),
  });
  try {
    const result = await kit.request({
      ...request,
      headers: requestFields(one, host),
      remoteAddress: "unix:",
      ctx: fromLua === undefined ? {} : { from_lua: fromLua },
    });
    const { response, upstreamRequest: sent } = result;
    return {
      status: response.status,
      headers: groupFields(response.headers),
      body: comparable(latin1(response.body)),
      cut: response.cut,
      upstream: sent && upstreamOutcome(sent.method, sent.uri, [...sent.headers], sent.body),
      failures: once(result.errors.map(({ plugin, phase }) => `${plugin}, ${phase}`)),
      lines: result.log.map(({ plugin, text }) => refusalLine(plugin, text)),
    };
  } finally {
    await kit.close();
  }
}

/** Compares what a case expects with what came of it. */
export function check({ expect }: Case, outcome: Outcome): void {
  const { headers = {}, without = [], body, upstream } = expect;
  assert.equal(outcome.status, expect.status ?? 200, `status; the body is ${outcome.body}`);
  for (const [name, values] of Object.entries(headers)) {
    assert.deepEqual(outcome.headers[name], values, name);
  }
  for (const name of without) assert.equal(outcome.headers[name], undefined, name);
  if (body instanceof RegExp) assert.match(outcome.body, body);
  else if (body !== undefined) assert.equal(outcome.body, body);
  if (expect.json !== undefined) {
    assert.deepEqual(JSON.parse(Buffer.from(outcome.body, "latin1").toString()), expect.json);
  }
  assert.equal(outcome.cut, expect.cut ?? false, "cut");
  assert.deepEqual(outcome.failures, expect.failures ?? [], "failures");
  assert.deepEqual(outcome.lines, expect.lines ?? [], "lines");
  if (upstream === null) assert.equal(outcome.upstream, undefined, "the upstream was asked");
  else if (upstream !== undefined) {
    const { field = {}, ...rest } = upstream;
    assert.ok(outcome.upstream, "the upstream was not asked");
    const sent = outcome.upstream;
    assert.deepEqual(
      Object.fromEntries(Object.keys(rest).map((key) => [key, sent[key as keyof typeof sent]])),
      rest,
    );
    for (const [name, value] of Object.entries(field)) {
      assert.deepEqual(
        sent.fields.filter(([key]) => key === name).map(([, item]) => item),
        [value],
        name,
      );
    }
  }
}
