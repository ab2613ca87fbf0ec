/** HTTP clients of the tests: undici (in this process), curl and wrk (children). */
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { Client, Pool } from "undici";

const run = promisify(execFile);

export interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
  text: string;
  /** The body as JSON. Throws with the body's text when it is none. */
  json<T = unknown>(): T;
}

export interface AskOptions {
  method?: "GET" | "POST" | "HEAD" | "OPTIONS";
  body?: Buffer | string;
  headers?: Record<string, string>;
  signal?: AbortSignal;
  timeoutMs?: number;
}

function makeReply(status: number, headers: Reply["headers"], body: Buffer): Reply {
  return {
    status,
    headers,
    body,
    text: body.toString("utf8"),
    json<T>() {
      try {
        return JSON.parse(this.text) as T;
      } catch {
        throw new Error(`status ${String(status)}, not JSON: ${this.text.slice(0, 500)}`);
      }
    },
  };
}

/** One request on a connection of its own, which is gone afterwards, whatever comes of it. */
async function askOnce(client: Client, path: string, options: AskOptions): Promise<Reply> {
  try {
    const answer = await client.request({
      path,
      method: options.method ?? "GET",
      reset: true,
      body: options.body ?? null,
      headers: options.headers ?? {},
      signal: options.signal ?? null,
    });
    const body = Buffer.from(await answer.body.arrayBuffer());
    return makeReply(answer.statusCode, answer.headers, body);
  } finally {
    await client.destroy();
  }
}

/**
 * A connection of its own meets no worker on its way out that is closing idle ones; and none is
 * left open for nginx to wait for.
 */
export function ask(url: string, options: AskOptions = {}): Promise<Reply> {
  const { origin, pathname, search } = new URL(url);
  const timeout = options.timeoutMs ?? 30_000;
  const client = new Client(origin, { headersTimeout: timeout, bodyTimeout: timeout });
  return askOnce(client, pathname + search, options);
}

/** As `ask`, through a unix socket. */
export function askSocket(
  socketPath: string,
  path: string,
  options: AskOptions = {},
): Promise<Reply> {
  return askOnce(new Client("http://localhost", { socketPath }), path, options);
}

/** A keep-alive pool; close it before the server is stopped. */
export class KeepAlive {
  readonly #pool: Pool;

  constructor(origin: string, connections: number) {
    this.#pool = new Pool(origin, { connections, pipelining: 1 });
  }

  async ask(path: string, options: AskOptions = {}): Promise<Reply> {
    const answer = await this.#pool.request({
      path,
      method: options.method ?? "GET",
      body: options.body ?? null,
      headers: options.headers ?? {},
      signal: options.signal ?? null,
    });
    return makeReply(
      answer.statusCode,
      answer.headers,
      Buffer.from(await answer.body.arrayBuffer()),
    );
  }

  close(): Promise<void> {
    return this.#pool.destroy();
  }
}

/** curl's standard output; throws with its standard error when it fails. */
export async function curl(...args: string[]): Promise<string> {
  const { stdout } = await run("curl", ["-sS", "--max-time", "30", ...args], {
    maxBuffer: 64 << 20,
  });
  return stdout;
}

export interface WrkReport {
  requests: number;
  seconds: number;
  requestsPerSecond: number;
  non2xx: number;
  socketErrors: { connect: number; read: number; write: number; timeout: number };
}

export interface WrkOptions {
  connections: number;
  seconds: number;
  threads?: number;
  headers?: Record<string, string>;
}

/** Reads wrk's report. Lines that it leaves out when there is nothing to tell count as 0. */
export function parseWrk(text: string): WrkReport {
  const total = /(\d+) requests in ([\d.]+)(ms|s|m)/.exec(text);
  const rate = /Requests\/sec:\s*([\d.]+)/.exec(text);
  if (!total || !rate) throw new Error(`not a report of wrk:\n${text}`);
  const unit = { ms: 0.001, s: 1, m: 60 }[total[3] as "ms" | "s" | "m"];
  const errors = /connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text);
  return {
    requests: Number(total[1]),
    seconds: Number(total[2]) * unit,
    requestsPerSecond: Number(rate[1]),
    non2xx: Number(/Non-2xx or 3xx responses: (\d+)/.exec(text)?.[1] ?? 0),
    socketErrors: {
      connect: Number(errors?.[1] ?? 0),
      read: Number(errors?.[2] ?? 0),
      write: Number(errors?.[3] ?? 0),
      timeout: Number(errors?.[4] ?? 0),
    },
  };
}

export async function wrk(url: string, options: WrkOptions): Promise<WrkReport> {
  const args = [
    `-t${String(options.threads ?? 1)}`,
    `-c${String(options.connections)}`,
    `-d${String(options.seconds)}s`,
    // What is answered later than this has failed; how fast a machine is says nothing of that.
    "--timeout=30s",
  ];
  for (const [name, value] of Object.entries(options.headers ?? {})) {
    args.push("-H", `${name}: ${value}`);
  }
  const { stdout } = await run("wrk", [...args, url]);
  return parseWrk(stdout);
}
