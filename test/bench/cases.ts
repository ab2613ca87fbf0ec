// What is measured: the cases, the targets, and where each pair of them is served.
import { makeTokens } from "./jwt.ts";
import type { Site } from "./nginx.ts";

/** The bridge with Node as a process, by Node's major: each in an nginx of its own, as `ts` there. */
export const PROCESS_TARGETS = ["process20", "process22", "process24", "process26"] as const;
export type ProcessTarget = (typeof PROCESS_TARGETS)[number];

export const TARGETS = ["lua", "ts", ...PROCESS_TARGETS, "njs", "proxy"] as const;
export type Target = (typeof TARGETS)[number];
export type ServedTarget = Exclude<Target, ProcessTarget>;

export function isProcess(target: Target): target is ProcessTarget {
  return PROCESS_TARGETS.some((one) => one === target);
}

/** Under which name its nginx serves it. */
export function servedAs(target: Target): ServedTarget {
  return isProcess(target) ? "ts" : target;
}

export const CASES = ["echo", "header", "jwt", "fields", "apisix", "apisix-filter", "cpu"] as const;
export type Case = (typeof CASES)[number];

/** A case in which every target answers the same request in its own way. */
export type LoadCase = Exclude<Case, "cpu">;

/** Cases in which the target `ts` is a plugin, and what it is to cost: one crossing a phase. */
export const PLUGIN_CASES: ReadonlyMap<LoadCase, number> = new Map([
  ["jwt", 1],
  ["fields", 1],
  ["apisix", 1],
  ["apisix-filter", 2],
]);

/** Cases that are served by APISIX, in an nginx of its own. */
const APISIX_CASES: readonly Case[] = ["apisix", "apisix-filter"];
const APISIX_TARGETS: readonly Target[] = ["lua", "ts"];

export function isApisix(name: Case): boolean {
  return APISIX_CASES.includes(name);
}

/** Those of the targets that serve the case. */
export function targetsOf(name: Case, targets: readonly Target[]): readonly Target[] {
  return isApisix(name) ? targets.filter((target) => APISIX_TARGETS.includes(target)) : targets;
}

type Headers = Readonly<Record<string, string>>;

/** What an answer must be. */
export interface Expected {
  readonly status: number;
  /** Left out: not looked at. */
  readonly body?: string;
  readonly headers: Headers;
}

/** A request that is asked before the case is measured. */
interface Exchange {
  readonly what: string;
  readonly headers: Headers;
  readonly expected: Expected;
}

interface CaseDefinition {
  readonly query: string;
  /** The request that is measured, and what it must give. */
  readonly measured: Exchange;
  /** What must be answered otherwise. */
  readonly others: readonly Exchange[];
}

const USER = "user-4711";

/** Ten request headers, as a browser behind a gateway sends them; handlers read `x-user-id`. */
export const REQUEST_HEADERS: Headers = {
  accept: "application/json",
  "accept-encoding": "gzip, deflate, br",
  "accept-language": "en-GB,en;q=0.8",
  "cache-control": "no-cache",
  cookie: "session=0123456789abcdef; theme=dark",
  referer: "https://example.com/start",
  "user-agent": "Mozilla/5.0 (X11; Linux x86_64) bench",
  "x-forwarded-for": "192.0.2.7",
  "x-request-id": "6a1f0c9e-4f5b-4a3e-9d27-0d8e4f1c2b3a",
  "x-user-id": USER,
};

const TOKENS = makeTokens(USER);

function ok(headers: Headers, body: string, answered: Headers = {}): Exchange {
  return { what: "the request", headers, expected: { status: 200, body, headers: answered } };
}

function bearer(token: string): Headers {
  return { authorization: `Bearer ${token}` };
}

/** A plugin has set a request field, which the upstream echoes, and a response field. */
const SEEN = { "x-seen": "1", "x-resp": "1" };

function apisixCase(): CaseDefinition {
  return { query: "", measured: ok(REQUEST_HEADERS, "ok", SEEN), others: [] };
}

const DEFINITIONS: Readonly<Record<LoadCase, CaseDefinition>> = {
  echo: { query: "?q=hello", measured: ok({}, "hello"), others: [] },
  header: { query: "", measured: ok(REQUEST_HEADERS, "ok", { "x-reply": USER }), others: [] },
  jwt: {
    query: "",
    measured: ok(bearer(TOKENS.good), USER),
    others: [
      { what: "no field", headers: {}, expected: { status: 401, headers: {} } },
      ...Object.entries(TOKENS.bad).map(([what, token]) => ({
        what,
        headers: bearer(token),
        expected: { status: 401, headers: {} },
      })),
    ],
  },
  fields: {
    query: "",
    measured: ok(REQUEST_HEADERS, "ok", {
      "x-client": "192.0.2.7 en-GB,en;q=0.8",
      "x-trace":
        "6a1f0c9e-4f5b-4a3e-9d27-0d8e4f1c2b3a/user-4711/Mozilla/5.0 (X11; Linux x86_64) bench",
    }),
    others: [],
  },
  apisix: apisixCase(),
  "apisix-filter": apisixCase(),
};

export function pathOf(name: LoadCase, target: Target): string {
  return `/${servedAs(target)}/${name}${DEFINITIONS[name].query}`;
}

export function requestHeadersOf(name: LoadCase): Headers {
  return DEFINITIONS[name].measured.headers;
}

async function checkExchange(site: Site, path: string, exchange: Exchange): Promise<void> {
  const { what, headers, expected } = exchange;
  const answer = await site.get(path, headers);
  const { status, body = answer.body } = expected;
  if (answer.status !== status || answer.body !== body) {
    const found = `${String(answer.status)} ${JSON.stringify(answer.body.slice(0, 200))}`;
    throw new Error(
      `${path}, ${what}: answered ${found}, expected ${String(status)} ${JSON.stringify(body)}`,
    );
  }
  for (const [header, value] of Object.entries(expected.headers)) {
    const found = answer.headers[header];
    if (found !== value) {
      throw new Error(`${path}, ${what}: answered ${header}: ${String(found)}, expected ${value}`);
    }
  }
}

/** Asks each of the case's requests once and throws if an answer is not what the case demands. */
export async function checkAnswer(site: Site, name: LoadCase, target: Target): Promise<void> {
  const { measured, others } = DEFINITIONS[name];
  for (const exchange of [measured, ...others]) {
    await checkExchange(site, pathOf(name, target), exchange);
  }
}
