/**
 * Fuzzes nginx's side of the channel by a host that keeps to nothing (channel-host.ts), under load.
 * Plain locations must go on as they do in an nginx without the bridge beside it, the error log must
 * stay small, the worker must stay, and must obey at the end.
 *
 *     node --import tsx test/fuzz/channel.ts [--seconds 600] [--seed N]
 *
 * The last line has the figures; exit status 1 when one of them is not as it must be.
 */
import { chmodSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { Client } from "undici";
import { sleep } from "../support/deadline.js";
import { besideMs, MANY_REQUESTS, Probers, type Wait } from "../support/longest-wait.js";
import { Nginx, type NginxOptions } from "../support/nginx.js";
import { content, plainContent } from "../support/nginx-config.js";
import { phase } from "../support/plugin-phases.js";
import { makeFolder } from "../support/project.js";
import { Random } from "./random.js";

const MOST_WAIT_MS = 100;
const MOST_LOG_BYTES_A_MINUTE = 1_000_000;
const MOST_END_MS = 5000;
/** With a log of this size nginx is killed: disks are finite. */
const ENOUGH_LOG_BYTES = 20_000_000;
const WATCH_MS = 100;
const CONNECTIONS = 16;
/** How often a plain location of either nginx is asked. */
const PROBE_MS = 5;
/** What waits so long will not be answered. */
const HANGS_MS = 10_000;
/** How long after its time nginx is killed, whatever waits for it. */
const OVERTIME_MS = 30_000;

export interface Figures {
  seconds: number;
  seed: number;
  requests: number;
  lives: number;
  /** The longest wait for a plain location, ms, and of the nginx beside it. */
  waitMs: number;
  controlMs: number;
  logBytes: number;
  endMs: number;
  /** What is not as it must be. */
  findings: string[];
}

async function hostProgram(seed: number): Promise<string> {
  const folder = makeFolder("fuzzing-host");
  chmodSync(folder, 0o755);
  const host = join(folder, "host.mjs");
  await build({
    entryPoints: [join(import.meta.dirname, "channel-host.ts")],
    outfile: host,
    bundle: true,
    platform: "node",
    format: "esm",
    logLevel: "error",
  });
  // It is given the host's file first, which it does not run.
  const program = join(folder, "node");
  const command = `exec "${process.execPath}" "${host}" --seed ${String(seed)} "$@"`;
  writeFileSync(program, `#!/bin/sh\n${command}\n`, { mode: 0o755 });
  return program;
}

function options(node: string): NginxOptions {
  return {
    ts: { runtime: "process", node, timeout_ms: 300, sync_timeout_ms: 10, stall_ms: 300 },
    locations: {
      "= /call": content(`t.reply(ts.import("calc.ts").add(1, ngx.var.arg_text or "2"))`),
      "= /sync": content(`t.reply(ts.call_sync(ts.import("calc.ts").add, nil, 1, 2))`),
      "= /notify": content(
        `for i = 1, 20 do ts.notify(ts.import("calc.ts").add, i, ("x"):rep(i * 100)) end t.reply(true)`,
      ),
      "= /large": content(`t.reply(ts.import("calc.ts").add(("x"):rep(300000)))`),
      "= /access": `${phase("access", `http.access("hello")`)} ${plainContent(`ngx.print("{}")`)}`,
      "= /log": `${phase("log", `http.log("hello")`)} ${plainContent(`ngx.print("{}")`)}`,
    },
    // But for what filters and log handlers may block for a start (docs/phases.md).
    beforeStart: `require("resty.ts.blocking").start_ms = function() return 0 end`,
    http: MANY_REQUESTS,
    allowLog: [/./],
  };
}

const LOAD = ["/call", "/sync", "/notify", "/large", "/access", "/log", "/_up", "/_stats"];

/** The lines of a log, with the numbers in them left out, most frequent first. */
function kindsOf(log: string): string {
  const counts = new Map<string, number>();
  for (const line of log.split("\n")) {
    const kind = line
      .replace(/^\S+ \S+ /, "")
      .replace(/[\da-f]{32}|\d+/g, "N")
      .slice(0, 200);
    counts.set(kind, (counts.get(kind) ?? 0) + 1);
  }
  const kinds = [...counts].sort(([, a], [, b]) => b - a).slice(0, 20);
  return kinds.map(([kind, count]) => `${String(count)} ${kind}`).join("\n");
}

export async function fuzzChannel(seconds: number, seed: number): Promise<Figures> {
  const nginx = await Nginx.start(options(await hostProgram(seed)));
  const control = await Nginx.start({ ts: false, http: MANY_REQUESTS });
  const worker = nginx.workerPid();
  const random = new Random(seed);
  const findings: string[] = [];
  const began = performance.now();
  let end = began + seconds * 1000;
  const log = join(nginx.prefix, "logs", "error.log");
  let requests = 0;

  async function load(): Promise<void> {
    while (performance.now() < end) {
      const client = new Client(nginx.url, { headersTimeout: HANGS_MS, bodyTimeout: HANGS_MS });
      for (let i = random.below(200); i >= 0 && performance.now() < end; i--) {
        try {
          const path = random.pick(LOAD);
          const answer = await client.request({ path, method: "GET" });
          await answer.body.dump();
          requests++;
        } catch (error) {
          findings.push(`a request fails: ${String(error)}`);
          return;
        }
        if (random.once(50)) await sleep(random.below(20));
      }
      await client.destroy();
    }
  }

  const waits: Wait[] = [];
  const asked = [nginx, control].map((one) => ({ nginx: one, workers: 1 }));
  const probers = new Probers(PROBE_MS, asked, (wait) => waits.push(wait));

  // With nginx killed all that waits for it fails.
  function kill(why: string): void {
    findings.push(`nginx was killed: ${why}`);
    end = 0;
    nginx.killAll();
  }

  async function watchLog(): Promise<void> {
    let [before, from] = [0, performance.now()];
    while (performance.now() < end) {
      await sleep(Math.min(WATCH_MS, Math.max(0, end - performance.now()) + 1));
      const { size } = statSync(log);
      if (size > ENOUGH_LOG_BYTES) kill(`its log has ${String(size)} bytes`);
      if (performance.now() < Math.min(end, from + 60_000)) continue;
      const grown = size - before;
      if (grown > MOST_LOG_BYTES_A_MINUTE) findings.push(`the log grows by ${String(grown)} bytes`);
      [before, from] = [size, performance.now()];
    }
  }

  const overtime = setTimeout(kill, seconds * 1000 + OVERTIME_MS, "it did not end in time");
  const results = await Promise.allSettled([
    watchLog(),
    ...Array.from({ length: CONNECTIONS }, load),
  ]);
  for (const one of results) if (one.status === "rejected") findings.push(String(one.reason));
  const { lives } = await nginx.json<{ lives: number }>("/_stats").catch(() => ({ lives: -1 }));
  if (!nginx.workerPids().includes(worker)) findings.push("the worker has ended");
  const logBytes = statSync(log).size;
  const totals = await probers.stop();
  const [waitMs, controlMs] = [nginx, control].map(({ port }) => totals.get(port!)!.longestMs);
  for (const wait of waits.filter(({ port }) => port === nginx.port)) {
    // What both wait for is the machine's doing.
    if (wait.ms <= MOST_WAIT_MS + besideMs(wait, control, waits)) continue;
    findings.push(`a plain location answers after ${wait.ms} ms, at ${wait.from.toFixed(0)} ms`);
  }
  const from = performance.now();
  await nginx.quit(MOST_END_MS).catch((error: unknown) => findings.push(String(error)));
  const endMs = performance.now() - from;
  clearTimeout(overtime);
  if (findings.length > 0) findings.push(kindsOf(nginx.errorLog()));
  await nginx.stop().catch((error: unknown) => findings.push(String(error).slice(0, 2000)));
  await control.stop();
  return {
    ...{ seconds, seed, requests, lives, logBytes, endMs, findings },
    ...{ waitMs: waitMs!, controlMs: controlMs! },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "600" },
      seed: { type: "string", default: String(Date.now() % 1_000_000) },
    },
  });
  const { findings, ...figures } = await fuzzChannel(Number(values.seconds), Number(values.seed));
  for (const finding of findings) console.log(finding);
  console.log(JSON.stringify({ ...figures, findings: findings.length }));
  if (findings.length > 0) process.exitCode = 1;
}
