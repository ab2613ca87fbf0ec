/**
 * The shared suite's cases in a real nginx: a server for each, a client that reads bytes as they
 * come, and the upstream that all of them have.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { byteString } from "../../src/http/target.ts";
import { answerOf, makeUpstreamRequest } from "../../src/testing/upstream.ts";
import type { Upstream } from "../../src/testing/index.ts";
import { until } from "../support/deadline.js";
import type { Nginx, NginxOptions } from "../support/nginx.js";
import { luaLiteral, type LuaValue, type StartOptions } from "../support/nginx-config.js";
import { PROJECT_ROOT } from "../support/project.js";
import {
  BODY_BUFFER,
  type Case,
  comparable,
  groupFields,
  latin1,
  once,
  type Outcome,
  refusalLine,
  requestFields,
  SHARED,
  TIMEOUT_MS,
  upstreamOutcome,
} from "./case.ts";
import { hostOf } from "./cases.ts";

const LOCATION = "x-kit-location";
const PHASES = ["rewrite", "access", "header_filter", "body_filter", "log"];

export interface Places {
  /** Where nginx serves the cases. */
  readonly front: string;
  /** Where the upstream listens. */
  readonly back: string;
}

export function placesIn(folder: string): Places {
  return { front: join(folder, "front.sock"), back: join(folder, "back.sock") };
}

// nginx -----------------------------------------------------------------------------------------

function memberLiteral({ plugin, conf = {}, options = {} }: Case["chain"][number]): string {
  const { onError, onTimeout, onOverload, timeoutMs, priority } = options;
  const given = {
    name: plugin.name,
    conf: conf as LuaValue,
    on_error: onError,
    on_timeout: onTimeout,
    on_overload: onOverload,
    timeout_ms: timeoutMs,
    priority,
  };
  const present = Object.entries(given).filter(([, value]) => value !== undefined);
  return luaLiteral(Object.fromEntries(present) as Record<string, LuaValue>);
}

function phaseBlock(phase: string, before = "", after = ""): string {
  return `${phase}_by_lua_block { ${before} require("resty.ts.http").run() ${after} }`;
}

/** What a test may say otherwise. */
export interface Others {
  readonly ts?: StartOptions;
  /** Lua that runs after the log handlers. */
  readonly afterLog?: string;
}

function serverOf(one: Case, i: number, { front }: Places, { afterLog = "" }: Others): string {
  const lua = one.fromLua === undefined ? "" : `ngx.ctx.from_lua = ${luaLiteral(one.fromLua)}`;
  const answers = one.chain.some(({ plugin }) => plugin.content !== undefined);
  const pass = "proxy_pass http://kit_upstream; proxy_set_header Host $http_host;";
  return `server {
    listen unix:${front};
    server_name ${hostOf(i)};
    client_body_buffer_size ${BODY_BUFFER};
    proxy_http_version 1.1;
    location / {
      set $resty_ts_route ${hostOf(i)};
      ${Object.entries(one.vars ?? {})
        .map(([name, value]) => `set $${name} "${value}";`)
        .join(" ")}
      ${PHASES.map((phase) =>
        phaseBlock(phase, phase === "rewrite" ? lua : "", phase === "log" ? afterLog : ""),
      ).join("\n      ")}
      ${answers ? phaseBlock("content") : pass}
    }
    ${Object.keys(one.locations ?? {})
      .map((path) => `location ${path} { ${pass} proxy_set_header ${LOCATION} ${path}; }`)
      .join("\n")}
  }`;
}

export function optionsFor(
  cases: readonly Case[],
  places: Places,
  others: Others = {},
): NginxOptions {
  const routes = cases.map(
    (one, i) => `http.route("${hostOf(i)}", { ${one.chain.map(memberLiteral).join(", ")} })`,
  );
  return {
    ts: {
      plugins: join(PROJECT_ROOT, "test/kit/plugins"),
      timeout_ms: TIMEOUT_MS,
      // What a filter takes is nothing here; a machine that is busy with other things must not tell.
      sync_timeout_ms: TIMEOUT_MS,
      // What handlers log is read from the error log.
      max_log_bytes_per_second: 1_000_000_000,
      ...others.ts,
    },
    initWorker: `local http = require "resty.ts.http"\n${routes.join("\n")}`,
    http: `
      lua_shared_dict ${SHARED} 1m;
      server_names_hash_max_size 4096;
      upstream kit_upstream { server unix:${places.back}; }
      ${cases.map((one, i) => serverOf(one, i, places, others)).join("\n")}`,
    logLevel: "info",
    allowLog: [/resty\.ts/],
  };
}

// The upstream ----------------------------------------------------------------------------------

type Pairs = [string, string][];

function pairsOf(flat: readonly string[]): Pairs {
  return Array.from({ length: flat.length / 2 }, (_, i) => [flat[2 * i]!, flat[2 * i + 1]!]);
}

export class KitUpstream {
  /** What it was asked, by case. */
  readonly seen = new Map<string, Outcome["upstream"]>();
  readonly #server: Server;
  readonly #cases: ReadonlyMap<string, Case>;

  constructor(cases: readonly Case[]) {
    this.#cases = new Map(cases.map((one, i) => [hostOf(i), one]));
    this.#server = createServer((request, response) => {
      this.#answer(request, response).catch((error: unknown) => {
        response.destroy(error as Error);
      });
    });
  }

  listen(path: string): Promise<void> {
    return new Promise((resolve) => this.#server.listen(path, resolve));
  }

  close(): Promise<void> {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = "", url = "", headers, rawHeaders } = request;
    const host = headers.host ?? "";
    const parts: Buffer[] = [];
    for await (const part of request as AsyncIterable<Buffer>) parts.push(part);
    const body = new Uint8Array(Buffer.concat(parts));
    const pairs = pairsOf(rawHeaders).filter(([name]) => name.toLowerCase() !== LOCATION);
    const location = headers[LOCATION] as string | undefined;
    const one = this.#cases.get(host);
    let handler: Upstream | undefined = one?.upstream;
    if (location !== undefined) handler = one?.locations?.[location];
    else this.seen.set(host, upstreamOutcome(method, url, pairs, body));
    const asked = makeUpstreamRequest(method, url, pairs.flat(), body);
    const answer = answerOf((await handler?.(asked)) ?? {});
    response.sendDate = false;
    // Flat, so that repeated fields stay apart, which its type does not say.
    response.writeHead(answer.status, answer.fields as unknown as Record<string, string>);
    for await (const piece of answer.pieces) response.write(piece);
    response.end();
  }
}

// The client ------------------------------------------------------------------------------------

interface RawReply {
  readonly status: number;
  readonly pairs: Pairs;
  readonly body: Uint8Array;
  readonly cut: boolean;
}

function dechunk(bytes: Buffer): { body: Buffer; whole: boolean } {
  const parts: Buffer[] = [];
  let at = 0;
  for (;;) {
    const line = bytes.indexOf("\r\n", at);
    if (line < 0) return { body: Buffer.concat(parts), whole: false };
    const size = Number.parseInt(bytes.toString("latin1", at, line), 16);
    if (size === 0) return { body: Buffer.concat(parts), whole: true };
    parts.push(bytes.subarray(line + 2, line + 2 + size));
    at = line + 2 + size + 2;
  }
}

function parseReply(bytes: Buffer, method: string): RawReply {
  const end = bytes.indexOf("\r\n\r\n");
  if (end < 0) return { status: 0, pairs: [], body: new Uint8Array(0), cut: true };
  const [first = "", ...lines] = bytes.toString("latin1", 0, end).split("\r\n");
  const status = Number(first.split(" ")[1]);
  const pairs = lines.map((line): [string, string] => {
    const colon = line.indexOf(":");
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
  const rest = bytes.subarray(end + 4);
  if (method === "HEAD" || status === 204 || status === 304) {
    return { status, pairs, body: rest, cut: false };
  }
  const field = (name: string): string | undefined =>
    pairs.find(([key]) => key.toLowerCase() === name)?.[1];
  if (field("transfer-encoding") === "chunked") {
    const { body, whole } = dechunk(rest);
    return { status, pairs, body, cut: !whole };
  }
  const length = field("content-length");
  return { status, pairs, body: rest, cut: length !== undefined && rest.length < Number(length) };
}

/** Sends a case's request, and reads until nginx closes the connection. */
export async function send(front: string, one: Case, host: string): Promise<RawReply> {
  const { body, url = "/" } = one.request ?? {};
  const method = one.request?.method ?? (body === undefined ? "GET" : "POST");
  const bytes = body === undefined ? undefined : Buffer.from(body);
  const fields = requestFields(one, host);
  if (bytes !== undefined) fields.push(["Content-Length", String(bytes.length)]);
  const head = [
    `${method} ${byteString(url)} HTTP/1.1`,
    ...fields.map(([name, value]) => `${name}: ${value}`),
    "\r\n",
  ].join("\r\n");
  const received: Buffer[] = [];
  await new Promise<void>((resolve, reject) => {
    const socket = connect(front);
    socket.on("data", (part) => received.push(part));
    let failure: Error | undefined;
    // Whoever is answered before the body was read cannot write the rest of it.
    socket.on("error", (error) => (failure = error));
    socket.on("close", () => {
      if (failure !== undefined && received.length === 0) reject(failure);
      else resolve();
    });
    socket.write(Buffer.concat([Buffer.from(head, "latin1"), bytes ?? Buffer.alloc(0)]));
  });
  return parseReply(Buffer.concat(received), method);
}

// What came of it -------------------------------------------------------------------------------

const FAILURE =
  /resty\.ts: ([a-z][a-z0-9_-]*(?:, [a-z][a-z0-9_-]*)*), (rewrite|access|before_proxy|content|header_filter|body_filter|delayed_body_filter|log), request [0-9a-f]+: (.*?)(?:, context: |, client: |$)/;
const LINE = /resty\.ts: (\[[a-z][a-z0-9_-]*\] .*?)(?:, context: |, client: |$)/;
const CAMEL: Readonly<Record<string, string>> = {
  before_proxy: "beforeProxy",
  header_filter: "headerFilter",
  body_filter: "bodyFilter",
  delayed_body_filter: "delayedBodyFilter",
};

/** What lines of the error log say of plugins, in their order. */
export function told(log: string): { failures: string[]; lines: string[] } {
  const failures: string[] = [];
  const lines: string[] = [];
  for (const line of log.split("\n")) {
    const failure = FAILURE.exec(line);
    const phase = failure?.[2] ?? "";
    if (failure && line.includes(" [info] ")) lines.push(refusalLine(failure[1]!, failure[3]!));
    else if (failure) failures.push(`${failure[1]!}, ${CAMEL[phase] ?? phase}`);
    const own = LINE.exec(line);
    if (own) lines.push(own[1]!);
  }
  return { failures, lines };
}

/** @param awaited the lines that the error log gets: they come a moment after the response. */
export async function runInNginx(
  nginx: Nginx,
  upstream: KitUpstream,
  places: Places,
  one: Case,
  host: string,
  awaited: Pick<Outcome, "failures" | "lines">,
): Promise<Outcome> {
  upstream.seen.delete(host);
  const before = nginx.errorLog().length;
  const reply = await send(places.front, one, host);
  const log = (): ReturnType<typeof told> => {
    const { failures, lines } = told(nginx.errorLog().slice(before));
    return { failures: once(failures), lines };
  };
  await until(
    "the error log has what it gets of the request",
    () =>
      log().lines.length >= awaited.lines.length &&
      log().failures.length >= awaited.failures.length,
    5000,
    () => JSON.stringify(log()),
  ).catch((error: unknown) => {
    // The comparison says it better, unless nothing else is wrong.
    if (reply.status === 0) throw error;
  });
  return {
    status: reply.status,
    headers: groupFields(reply.pairs),
    body: comparable(latin1(reply.body)),
    cut: reply.cut,
    upstream: upstream.seen.get(host),
    ...log(),
  };
}
