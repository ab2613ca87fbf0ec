// What is measured: the cases, the targets, and where each pair of them is served.
import type { Site } from "./nginx.ts";

export const TARGETS = ["lua", "ts", "njs", "proxy"] as const;
export type Target = (typeof TARGETS)[number];

export const CASES = ["echo", "header", "cpu"] as const;
export type Case = (typeof CASES)[number];

/** A case in which every target answers the same request in its own way. */
export type LoadCase = Exclude<Case, "cpu">;

export interface Expected {
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** Ten request headers, as a browser behind a gateway sends them; handlers read `x-user-id`. */
export const REQUEST_HEADERS: Readonly<Record<string, string>> = {
  accept: "application/json",
  "accept-encoding": "gzip, deflate, br",
  "accept-language": "en-GB,en;q=0.8",
  "cache-control": "no-cache",
  cookie: "session=0123456789abcdef; theme=dark",
  referer: "https://example.com/start",
  "user-agent": "Mozilla/5.0 (X11; Linux x86_64) bench",
  "x-forwarded-for": "192.0.2.7",
  "x-request-id": "6a1f0c9e-4f5b-4a3e-9d27-0d8e4f1c2b3a",
  "x-user-id": "user-4711",
};

const QUERY: Readonly<Record<LoadCase, string>> = { echo: "?q=hello", header: "" };

const EXPECTED: Readonly<Record<LoadCase, Expected>> = {
  echo: { body: "hello", headers: {} },
  header: { body: "ok", headers: { "x-reply": "user-4711" } },
};

export function pathOf(name: LoadCase, target: Target): string {
  return `/${target}/${name}${QUERY[name]}`;
}

export function requestHeadersOf(name: LoadCase): Readonly<Record<string, string>> {
  return name === "header" ? REQUEST_HEADERS : {};
}

/** Asks once for the location and throws if the answer is not what the case demands. */
export async function checkAnswer(site: Site, name: LoadCase, target: Target): Promise<void> {
  const path = pathOf(name, target);
  const answer = await site.get(path, requestHeadersOf(name));
  const expected = EXPECTED[name];
  if (answer.status !== 200 || answer.body !== expected.body) {
    const found = `${String(answer.status)} ${JSON.stringify(answer.body.slice(0, 200))}`;
    throw new Error(`${path} answered ${found}, expected 200 ${JSON.stringify(expected.body)}`);
  }
  for (const [header, value] of Object.entries(expected.headers)) {
    const found = answer.headers[header];
    if (found !== value) {
      throw new Error(`${path} answered ${header}: ${String(found)}, expected ${value}`);
    }
  }
}
