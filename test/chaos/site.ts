/** One nginx under chaos: its workers, their environments, and ways to reach a certain one. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Client } from "undici";
import { until } from "../support/deadline.js";
import { Nginx } from "../support/nginx.js";
import { content, luaPhase, type StartOptions } from "../support/nginx-config.js";
import { childrenOf } from "../support/proc.js";
import { FIXTURES } from "../support/project.js";
import { Scarce } from "./scarce.js";
import type { Span } from "./waits.js";
import { buildScarce } from "./tools.js";
import { makeRoom, type Room } from "./room.js";

const FOLDER = join(import.meta.dirname, "fixtures");
export const WORKERS = 2;
/** A filter that is not answered in time lets the response pass. */
export const SYNC_TIMEOUT_MS = 50;
const RECOVERY_MS = 30_000;
const ANSWER_MS = 40_000;

/** What calls of our own note. */
const WARM = "warm";

/** One connection, which stays open when it is idle: it is known by the worker at its other end. */
export function openClient(url: string): Client {
  return new Client(url, {
    headersTimeout: ANSWER_MS,
    bodyTimeout: ANSWER_MS,
    keepAliveTimeout: 3_600_000,
    keepAliveMaxTimeout: 3_600_000,
  });
}

export type Runtime = "embedded" | "process";

export interface Answer<T = unknown> {
  value?: T;
  err?: string;
  code?: string;
  status: number;
}

export interface Stats {
  state: string;
  reason?: string;
  lives: number;
  pending: number;
  process_id?: number;
}

const read = (...path: string[]): string => readFileSync(join(...path), "utf8");

function files(): Record<string, string> {
  const note = read(FOLDER, "modules", "note.ts");
  const result: Record<string, string> = {
    "plugins/tag/note.ts": note,
    "plugins/wicked/faulty.ts": read(FIXTURES, "faulty.ts"),
  };
  for (const name of readdirSync(FOLDER, { recursive: true, encoding: "utf8" })) {
    if (name.endsWith(".ts")) result[name] = read(FOLDER, name);
  }
  return result;
}

/** In a handler: the file that neighbours note their calls in. */
const LOG = `ngx.config.prefix() .. "begun"`;
const TAG = `"tag", { log = ${LOG} }`;

function echo(name: string, options = "nil"): string {
  return content(`
    ngx.header["x-worker"] = ngx.worker.pid()
    ngx.req.read_body()
    t.reply(ts.import("neighbour.ts", ${options}).${name}(${LOG}, ngx.var.http_x_id, ngx.req.get_body_data() or ""))`);
}

function faulty(call: string): string {
  return content(`
    ngx.header["x-worker"] = ngx.worker.pid()
    local faulty = ts.import("faulty.ts")
    local ms = { timeout_ms = tonumber(ngx.var.arg_ms) }
    t.reply(${call})`);
}

const LOCATIONS = {
  "= /echo": echo("echo"),
  "= /late": echo("late"),
  "= /again": echo("late", "{ idempotent = true }"),
  "= /access": `
    ${luaPhase("access", `ngx.header["x-worker"] = ngx.worker.pid(); require("resty.ts.http").access(${TAG})`)}
    ${content(`ngx.print(ngx.var.http_x_access)`)}`,
  // Of a chain that has both, as access waits for an environment that does not answer.
  "= /filter": `
    ${luaPhase("access", `require("resty.ts.http").access(${TAG})`)}
    ${content(`ngx.print("plain")`)}
    ${luaPhase("header_filter", `ngx.header["x-worker"] = ngx.worker.pid(); require("resty.ts.http").header_filter(${TAG})`)}`,
  "= /fault": faulty("ts.call(faulty.fault, ms, ngx.var.arg_kind)"),
  "= /size": faulty("#ts.call(faulty.fault, ms, ngx.var.arg_kind)"),
  // 100 coroutines, and what they get.
  "= /flood": faulty(`(function()
        local threads, count = {}, 0
        for i = 1, 100 do
            threads[i] = ngx.thread.spawn(function()
                for n = 1, 200 do
                    local right = faulty.ok(n) == n
                    count = count + (right and 1 or 0)
                end
            end)
        end
        for i = 1, 100 do
            ngx.thread.wait(threads[i])
        end
        return count
    end)()`),
  "= /pieces": content(`require("resty.ts.http").content("floods")`),
  "= /asking": content(`require("resty.ts.http").content("floods")`),
  "= /unheard": faulty("ts.notify(faulty.fault, ngx.var.arg_kind)"),
  "= /held": faulty("ts.call(faulty.held, ms)"),
  "= /in-flight": faulty("faulty.inFlight()"),
  "= /release": faulty("faulty.release()"),
  "= /ok": faulty(`ts.call(faulty.ok, ms, "well")`),
  "= /wicked": `
    ${luaPhase("access", `ngx.header["x-worker"] = ngx.worker.pid(); require("resty.ts.http").access("wicked")`)}
    ${content(`ngx.print("{}")`)}`,
  "= /stats": content(`
    ngx.header["x-worker"] = ngx.worker.pid()
    t.json(ts.stats())`),
};

const INIT_WORKER = `
  local client = ts.internal.client()
  -- Its descriptor and socket are made anew every so many wake-ups; here that is often.
  client.waiting.wakeups_a_timer = 300
  -- For how long a filter has blocked the worker for a start.
  local blocking = require "resty.ts.blocking"
  local spend_start, file = blocking.spend_start, io.open(ngx.config.prefix() .. "blocked", "a")
  function blocking.spend_start(ms)
      spend_start(ms)
      file:write(ngx.worker.pid(), " ", client.now_ms() - ms, " ", client.now_ms(), "\\n")
      file:flush()
  end`;

/** What is a fault's doing, and not more. */
const ALLOWED_LOG = [
  /resty\.ts: /,
  /worker process \d+ exited on signal 9/,
  /\(24: Too many open files\)/,
  /lua tcp socket connect/,
];

/** Connections to one worker, each used by one request at a time. */
export class Worker {
  readonly pid: number;
  readonly #site: Site;
  #idle: Client[] = [];

  constructor(site: Site, pid: number) {
    this.#site = site;
    this.pid = pid;
  }

  async ask<T = unknown>(path: string, headers: Record<string, string> = {}): Promise<Answer<T>> {
    const client = this.#idle.pop() ?? (await this.#site.connect(this.pid));
    const reply = await client.request({ path, method: "GET", headers });
    const text = await reply.body.text();
    this.#idle.push(client);
    const answer = reply.statusCode === 200 ? (JSON.parse(text) as Answer<T>) : ({} as Answer<T>);
    return { ...answer, status: reply.statusCode };
  }

  async stats(): Promise<Stats> {
    return (await this.ask("/stats")) as unknown as Stats;
  }

  /** Has some connections at hand, for when new ones cannot be made. */
  async prepare(count: number): Promise<void> {
    while (this.#idle.length < count) this.#idle.push(await this.#site.connect(this.pid));
  }

  /** Resolves when the faulty module and its neighbour answer again, and the environment is ready. */
  async recovered(): Promise<void> {
    let last = "";
    await until(
      `worker ${String(this.pid)} serves again`,
      async () => {
        const answer = await this.ask("/ok?ms=5000");
        last = JSON.stringify(answer);
        if (answer.value !== "well") return false;
        // Calls that wait for their module to be loaded count as begun, and would fail with the next end.
        if ((await this.ask("/echo", { "x-id": WARM })).value === undefined) return false;
        const { state, reason } = await this.stats();
        last = `${state} ${reason ?? ""}`;
        return state === "ready";
      },
      RECOVERY_MS,
      () => last,
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.#idle.map((client) => client.destroy()));
    this.#idle = [];
  }
}

export class Site {
  readonly runtime: Runtime;
  readonly nginx: Nginx;
  readonly room: Room | undefined;
  readonly scarce: Scarce;
  /** When its workers were paused. */
  readonly paused: Span[] = [];
  /** When filters have blocked them for the start of an environment, once it has stopped. */
  readonly blocked: Span[] = [];
  /** What was done to it last. */
  lastFault = "the start";
  readonly #workers = new Map<number, Worker>();

  private constructor(runtime: Runtime, nginx: Nginx, room: Room | undefined, scarce: Scarce) {
    this.runtime = runtime;
    this.nginx = nginx;
    this.room = room;
    this.scarce = scarce;
  }

  static async start(runtime: Runtime): Promise<Site> {
    const room = makeRoom();
    const scarce = new Scarce();
    process.env.RTS_NGINX_PRELOAD = buildScarce();
    process.env.RTS_CHAOS_SCARCE = scarce.path;
    const ts: StartOptions = {
      ...{ runtime, plugins: "plugins", timeout_ms: 30_000, sync_timeout_ms: SYNC_TIMEOUT_MS },
      ...{ stall_ms: 500, max_heap_mb: 96, max_external_mb: 256, start_timeout_ms: 20_000 },
      ...(room && { runtime_dir: room.path }),
    };
    const nginx = await Nginx.start({
      ts,
      files: files(),
      allowLog: ALLOWED_LOG,
      workers: WORKERS,
      main: "worker_shutdown_timeout 5s;",
      http: "keepalive_requests 100000000; keepalive_timeout 3600;",
      initWorker: INIT_WORKER,
      locations: LOCATIONS,
    });
    const site = new Site(runtime, nginx, room, scarce);
    await site.settled();
    return site;
  }

  worker(pid: number): Worker {
    let worker = this.#workers.get(pid);
    if (worker === undefined) this.#workers.set(pid, (worker = new Worker(this, pid)));
    return worker;
  }

  workers(): Worker[] {
    return this.nginx.workerPids().map((pid) => this.worker(pid));
  }

  /** The processes below the workers: their hosts, and what is started or ending just now. */
  hosts(): number[] {
    return this.nginx.workerPids().flatMap((pid) => childrenOf(pid));
  }

  /** Resolves when there are as many workers as there must be, and all serve. */
  async settled(): Promise<void> {
    await until("all workers are there", () => this.nginx.workerPids().length === WORKERS, 20_000);
    for (const worker of this.workers()) await worker.recovered();
  }

  /** A worker that is gone. */
  async forget(pid: number): Promise<void> {
    await this.#workers.get(pid)?.close();
    this.#workers.delete(pid);
  }

  /** A connection to this worker. */
  async connect(pid: number): Promise<Client> {
    const others: Client[] = [];
    try {
      return await until(
        `a connection to worker ${String(pid)}`,
        async () => {
          const client = openClient(this.nginx.url);
          const { headers, body } = await client.request({ path: "/stats", method: "GET" });
          await body.dump();
          if (Number(headers["x-worker"]) === pid) return client;
          others.push(client);
          return false;
        },
        10_000,
      );
    } finally {
      await Promise.all(others.map((client) => client.destroy()));
    }
  }

  /** The end of the error log, but for what it says of single requests; worker: of this one. */
  logOf(worker: number | undefined): string {
    return this.nginx
      .errorLog()
      .split("\n")
      .filter((line) => worker === undefined || line.includes(` ${worker}#`))
      .filter((line) => !line.includes("policy.lua"))
      .slice(-12)
      .map((line) => line.slice(0, 400))
      .join("\n");
  }

  /** What the neighbours have noted: note to times. */
  begun(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const line of read(this.nginx.prefix, "begun").split("\n")) {
      if (line !== "" && line !== WARM) counts.set(line, (counts.get(line) ?? 0) + 1);
    }
    return counts;
  }

  #readBlocked(): void {
    const file = join(this.nginx.prefix, "blocked");
    for (const line of existsSync(file) ? read(file).trim().split("\n") : []) {
      const [worker, from, to] = line.split(" ").map(Number);
      this.blocked.push({ worker: worker!, from: from!, to: to! });
    }
  }

  async stop(): Promise<void> {
    this.#readBlocked();
    for (const worker of this.#workers.values()) await worker.close();
    try {
      await this.nginx.stop();
    } finally {
      this.room?.remove();
      this.scarce.remove();
    }
  }
}
