// What the bridge of a site says about itself: its state, and the messages that Lua has sent to TypeScript.
import type { Site } from "./nginx.ts";

const LEAST_REQUESTS = 100;

/** Of ts.stats(): docs/lua-api.md. */
interface Stats {
  readonly state: string;
  readonly node_version?: string;
  readonly abi?: number;
  readonly calls: number;
  readonly failed: number;
  readonly timeouts: number;
  readonly refused: number;
  readonly notifications: number;
}

async function readStats(site: Site): Promise<Stats> {
  const answer = await site.get("/ts/stats");
  if (answer.status !== 200) throw new Error(`/ts/stats answered ${String(answer.status)}`);
  return JSON.parse(answer.body) as Stats;
}

export async function describeBridge(site: Site): Promise<string> {
  const { state, node_version, abi } = await readStats(site);
  return `${state} node ${String(node_version)} abi ${String(abi)}`;
}

export async function nodeMajorOf(site: Site): Promise<string> {
  const { node_version = "" } = await readStats(site);
  return /\d+/.exec(node_version)?.[0] ?? "unknown";
}

/** @throws {Error} A call has failed: where a plugin's policy is open, wrk has seen an answer all the same. */
export async function checkCalls(site: Site): Promise<void> {
  const { failed, timeouts, refused } = await readStats(site);
  if (failed + timeouts + refused === 0) return;
  throw new Error(
    `of the calls to TypeScript ${failed} failed, ${timeouts} were late, ${refused} were refused`,
  );
}

/** Calls and notifications since the start; answers come back without a message of their own. */
async function readCrossings(site: Site): Promise<number> {
  const { calls, notifications } = await readStats(site);
  return calls + notifications;
}

/**
 * Crossings of one request, counted over requests of our own, so many at once: wrk leaves some
 * unanswered when it ends, which it does not count. One at a time all come by one connection, and
 * so to one worker.
 */
export async function crossingsPerRequest(
  site: Site,
  path: string,
  headers: Readonly<Record<string, string>>,
  concurrency: number,
): Promise<number> {
  const before = await readCrossings(site);
  let asked = 0;
  while (asked < LEAST_REQUESTS) {
    await Promise.all(Array.from({ length: concurrency }, () => site.get(path, headers)));
    asked += concurrency;
  }
  return ((await readCrossings(site)) - before) / asked;
}
