// A request and what its answer must be: asked before anything is measured.
import type { Site } from "./nginx.ts";

export type Headers = Readonly<Record<string, string>>;

interface Expected {
  readonly status: number;
  /** Left out: not looked at. */
  readonly body?: string;
  readonly headers: Headers;
}

export interface Exchange {
  readonly what: string;
  readonly headers: Headers;
  readonly expected: Expected;
}

/** @throws {Error} The answer is not what is expected. */
export async function check(site: Site, path: string, exchange: Exchange): Promise<void> {
  const { what, headers, expected } = exchange;
  const answer = await site.get(path, headers);
  const { status, body = answer.body } = expected;
  if (answer.status !== status || answer.body !== body) {
    const shown = (text: string): string =>
      `${JSON.stringify(text.slice(-200))} (${text.length} bytes)`;
    throw new Error(
      `${path}, ${what}: answered ${answer.status} ${shown(answer.body)}, ` +
        `expected ${status} ${shown(body)}`,
    );
  }
  for (const [header, value] of Object.entries(expected.headers)) {
    const found = answer.headers[header];
    if (found !== value) {
      throw new Error(`${path}, ${what}: answered ${header}: ${String(found)}, expected ${value}`);
    }
  }
}
