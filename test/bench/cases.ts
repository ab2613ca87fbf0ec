// What is measured: the cases, the targets, and where each pair of them is served.
import { check, type Exchange, type Headers } from "./exchange.ts";
import { makeTokens } from "./jwt.ts";
import type { Site } from "./nginx.ts";

/** The bridge with Node as a process, by Node's major: each in an nginx of its own, as `ts` there. */
export const PROCESS_TARGETS = ["process20", "process22", "process24", "process26"] as const;
export type ProcessTarget = (typeof PROCESS_TARGETS)[number];

export const TARGETS = ["lua", "ts", ...PROCESS_TARGETS, "njs", "proxy", "yield"] as const;
export type Target = (typeof TARGETS)[number];
export type ServedTarget = Exclude<Target, ProcessTarget>;

export function isProcess(target: Target): target is ProcessTarget {
  return PROCESS_TARGETS.some((one) => one === target);
}

/** Under which name its nginx serves it. */
export function servedAs(target: Target): ServedTarget {
  return isProcess(target) ? "ts" : target;
}

export const CASES = [
  ...["echo", "header", "jwt", "fields", "access", "headers", "filter"],
  ...["declared", "kept", "body", "body-100k", "apisix", "apisix-filter", "cpu"],
] as const;
export type Case = (typeof CASES)[number];

/** A case in which every target answers the same request in its own way. */
export type LoadCase = Exclude<Case, "cpu">;

/** Cases in which the target `ts` is a plugin, and its crossings: one a phase, or a piece of the body. */
export const PLUGIN_CASES: ReadonlyMap<LoadCase, number> = new Map([
  ["jwt", 1],
  ["fields", 1],
  ["access", 1],
  ["headers", 1],
  ["filter", 2],
  ["declared", 1],
  ["kept", 1],
  ["body", 2],
  ["body-100k", 8],
  ["apisix", 1],
  ["apisix-filter", 2],
]);

const BRIDGED: readonly Target[] = ["lua", "ts", ...PROCESS_TARGETS];
const FILTERING: readonly Target[] = [...BRIDGED, "njs"];

/** Cases that some of the targets serve. */
const SERVED_BY: Readonly<Partial<Record<Case, readonly Target[]>>> = {
  echo: TARGETS,
  access: BRIDGED,
  headers: FILTERING,
  filter: FILTERING,
  declared: BRIDGED,
  kept: BRIDGED,
  body: FILTERING,
  "body-100k": FILTERING,
  apisix: ["lua", "ts"],
  "apisix-filter": ["lua", "ts"],
  cpu: ["lua", "ts", "njs", "proxy"],
};

/** Cases that are served by APISIX, in an nginx of its own. */
export function isApisix(name: Case): boolean {
  return name.startsWith("apisix");
}

/** Those of the targets that serve the case. */
export function targetsOf<T extends Target>(name: Case, targets: readonly T[]): readonly T[] {
  const served = SERVED_BY[name];
  return targets.filter((target) => served?.includes(target) ?? target !== "yield");
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

/** What a plugin has set of the response. */
const SET = { "x-resp": "1" };

function plainCase(body: string, answered: Headers): CaseDefinition {
  return { query: "", measured: ok(REQUEST_HEADERS, body, answered), others: [] };
}

/** The response field is the plugin's, though the upstream may send it as well. */
function overriding(): CaseDefinition {
  const others = [
    { ...ok({ ...REQUEST_HEADERS, "x-conflict": "1" }, "1", SET), what: "a conflict" },
  ];
  return { ...plainCase("1", SET), others };
}

// The text of `bench_lua.answer`, and what a filter makes of its last line.
export const LINE = `{"id": 4711, "name": "An article", "price": 12.50, "stock": 30}\n`;
const SECRET_LINE = "password=hunter2\n";

function bodyCase(bytes: number): CaseDefinition {
  const body = LINE.repeat(bytes / LINE.length);
  const masked = body + SECRET_LINE.replace("hunter2", "*******");
  return {
    query: "",
    measured: ok(REQUEST_HEADERS, body),
    others: [{ ...ok({ ...REQUEST_HEADERS, "x-secret": "1" }, masked), what: "a secret" }],
  };
}

const DEFINITIONS: Readonly<Record<LoadCase, CaseDefinition>> = {
  echo: { query: "?q=hello", measured: ok({}, "hello"), others: [] },
  header: plainCase("ok", { "x-reply": USER }),
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
  fields: plainCase("ok", {
    "x-client": "192.0.2.7 en-GB,en;q=0.8",
    "x-trace":
      "6a1f0c9e-4f5b-4a3e-9d27-0d8e4f1c2b3a/user-4711/Mozilla/5.0 (X11; Linux x86_64) bench",
  }),
  access: plainCase("1", {}),
  headers: plainCase("ok", SET),
  filter: plainCase("1", SET),
  declared: overriding(),
  kept: overriding(),
  body: bodyCase(1024),
  "body-100k": bodyCase(100 * 1024),
  // The upstream echoes the request field that the plugin has set.
  apisix: plainCase("ok", { ...SET, "x-seen": "1" }),
  "apisix-filter": plainCase("ok", { ...SET, "x-seen": "1" }),
};

export function pathOf(name: LoadCase, target: Target): string {
  return `/${servedAs(target)}/${name}${DEFINITIONS[name].query}`;
}

export function requestHeadersOf(name: LoadCase): Headers {
  return DEFINITIONS[name].measured.headers;
}

/** Asks each of the case's requests once and throws if an answer is not what the case demands. */
export async function checkAnswer(site: Site, name: LoadCase, target: Target): Promise<void> {
  const { measured, others } = DEFINITIONS[name];
  for (const exchange of [measured, ...others]) {
    await check(site, pathOf(name, target), exchange);
  }
}
