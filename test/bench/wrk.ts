// Runs wrk once and returns its figures. Any failed request makes the run fail.
import { spawn } from "node:child_process";
import { join } from "node:path";

import { BENCH_DIR } from "./support.ts";

export interface WrkOptions {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Mean pause of a connection between two requests; without it they follow at once. */
  readonly pauseMs?: number;
  /** Requests that a connection sends at once, before it waits for their answers. */
  readonly pipeline?: number;
  /** A command that turns itself into wrk, such as taskset. */
  readonly prefix?: readonly string[];
  /** A command that runs wrk as its child, such as perf; takes whole seconds only. */
  readonly parent?: readonly string[];
}

export interface WrkFigures {
  readonly requests: number;
  readonly rps: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  readonly maxUs: number;
}

interface WrkJson extends Omit<WrkFigures, "rps"> {
  readonly durationUs: number;
  readonly errors: Readonly<Record<string, number>>;
}

// wrk takes whole seconds only. It is given more than enough and is interrupted:
// on SIGINT it ends in order, with the true duration in its figures. A parent would not pass it on.
const SPARE_SECONDS = 30;

function argumentsOf(options: WrkOptions): string[] {
  const headers = Object.entries(options.headers ?? {});
  const seconds = Math.ceil(options.seconds) + (options.parent === undefined ? SPARE_SECONDS : 0);
  return [
    ...["--threads", "1", "--connections", String(options.connections), "--latency"],
    ...["--duration", `${String(seconds)}s`, "--timeout", "30s"],
    ...["--script", join(BENCH_DIR, "wrk.lua")],
    ...headers.flatMap(([name, value]) => ["--header", `${name}: ${value}`]),
    options.url,
    ...["--", String(options.pauseMs ?? 0), String(options.pipeline ?? 1)],
  ];
}

function run(options: WrkOptions): Promise<string> {
  return new Promise((resolve, reject) => {
    const words = [...(options.parent ?? options.prefix ?? []), "wrk", ...argumentsOf(options)];
    const [command = "wrk", ...args] = words;
    const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"] });
    const killAtExit = (): boolean => child.kill("SIGKILL");
    process.once("exit", killAtExit);
    let output = "";
    child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
    child.stderr.setEncoding("utf8").on("data", (chunk: string) => (output += chunk));
    const interrupt = (): boolean => options.parent === undefined && child.kill("SIGINT");
    const timer = setTimeout(interrupt, options.seconds * 1000);
    child.on("error", (cause) => {
      clearTimeout(timer);
      reject(new Error(`${command} cannot be started: is it installed?`, { cause }));
    });
    child.on("close", (code) => {
      clearTimeout(timer);
      process.off("exit", killAtExit);
      if (code === 0) resolve(output);
      else reject(new Error(`wrk ended with status ${String(code)}:\n${output}`));
    });
  });
}

export async function runWrk(options: WrkOptions): Promise<WrkFigures> {
  const output = await run(options);
  const line = /^wrk-json (.*)$/m.exec(output)?.[1];
  if (line === undefined) throw new Error(`wrk printed no figures:\n${output}`);
  const { durationUs, errors, ...figures } = JSON.parse(line) as WrkJson;
  const failed = Object.values(errors).some((count) => count > 0);
  if (failed || /Non-2xx|Socket errors/.test(output)) {
    throw new Error(`wrk saw failed requests at ${options.url}: ${JSON.stringify(errors)}`);
  }
  if (figures.requests === 0) {
    throw new Error(`wrk finished no request at ${options.url} in ${options.seconds} s`);
  }
  return { ...figures, rps: (figures.requests * 1e6) / durationUs };
}
