/** The nginx of the kinds, and what its engine keeps of their requests. */
import { truncateSync } from "node:fs";
import { join } from "node:path";
import { until } from "../support/deadline.js";
import type { Nginx, NginxOptions } from "../support/nginx.js";
import { KEPT_LOCATION, keptOf } from "../support/plugins.js";
import { isAlive, rssOf } from "../support/proc.js";
import { KINDS, type Kind, LOCATIONS, pathOf, PLUGINS, ROUTES } from "./kinds.ts";
import { load } from "./load.ts";

export type Runtime = "embedded" | "process";

export function siteOptions(runtime: Runtime): NginxOptions {
  return {
    listen: "unix",
    // Of a larger heap V8 leaves hundreds of MiB of garbage for later, which is not what is looked for.
    ts: { plugins: "plugins", runtime, max_heap_mb: 64 },
    files: Object.fromEntries(
      Object.entries(PLUGINS).map(([name, text]) => [`plugins/${name}.ts`, text]),
    ),
    initWorker: `local http = require "resty.ts.http"\n${ROUTES.join("\n")}`,
    server: "lua_check_client_abort on; keepalive_requests 1000000000;",
    locations: { ...LOCATIONS, "= /_kept": KEPT_LOCATION },
    // Failures are what the kinds are about.
    allowLog: [/resty\.ts/, /not_defined/],
  };
}

/** What is kept for requests, and may not stay. */
export type Left = Readonly<
  Record<"requests" | "runs" | "streams" | "background" | "pending", number>
>;

export const NOTHING: Left = { requests: 0, runs: 0, streams: 0, background: 0, pending: 0 };

async function leftOf(nginx: Nginx): Promise<Left> {
  const { pending } = await nginx.json<{ pending: number }>("/_stats");
  const { requests, runs, streams, background } = await keptOf(nginx);
  return { requests, runs, streams, background, pending };
}

const isNothing = (left: Left): boolean => Object.values(left).every((one) => one === 0);

export interface Outcome {
  readonly left: Left;
  /** Of the worker, and of Node's process where it has one: medians of the first third and the last. */
  readonly firstRss: number;
  readonly lastRss: number;
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.trunc(values.length / 2)] ?? 0;
}

/**
 * Sends so many requests of a kind.
 *
 * @returns what is kept; when that is not nothing, `deadlineMs` after the last answer.
 */
export async function tryKind(
  nginx: Nginx,
  kind: Kind,
  count: number,
  deadlineMs: number,
): Promise<Outcome> {
  if (!KINDS.includes(kind)) throw new Error(`no kind: ${kind.name}`);
  // Node is up, and the chains are configured.
  await until("nothing is kept before", async () => isNothing(await leftOf(nginx)));
  const pids = nginx.allPids().filter((pid) => pid !== nginx.masterPid);
  const samples: number[] = [];
  const step = Math.max(1, Math.trunc(count / 300));
  let next = step;
  await load(nginx.socketPath!, pathOf(kind), kind, count, (sent) => {
    if (sent < next) return;
    next += step;
    samples.push(pids.filter(isAlive).reduce((all, pid) => all + rssOf(pid), 0));
    // Each failure is in it, with its stack.
    if (samples.length % 10 === 0) truncateSync(join(nginx.prefix, "logs", "error.log"));
  });
  let left = NOTHING;
  let looked = false;
  await until(
    "nothing is kept",
    async () => {
      // nginx may be behind with connections.
      const now = await leftOf(nginx).catch(() => undefined);
      if (now === undefined) return false;
      looked = true;
      left = now;
      return isNothing(left);
    },
    deadlineMs,
  ).catch((error: unknown) => {
    if (!looked) throw error; // else `left` says it
  });
  const third = Math.trunc(samples.length / 3);
  return {
    left,
    firstRss: median(samples.slice(0, third)),
    lastRss: median(samples.slice(-third)),
  };
}
