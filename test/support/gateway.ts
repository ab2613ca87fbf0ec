/**
 * A gateway for tests of plugins: nginx with the example plugins, listening for HTTP/1.1 and for
 * HTTP/2 with TLS, before an upstream that tells what it has seen. `describeGateway` is the way in.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import {
  createServer,
  request as requestHttp1,
  type IncomingMessage,
  type Server,
  type ServerResponse,
} from "node:http";
import { connect } from "node:http2";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe } from "node:test";
import { within } from "./deadline.js";
import { findPort, Nginx, type NginxOptions } from "./nginx.js";
import { PROJECT_ROOT } from "./project.js";

export const EXAMPLE_PLUGINS = join(PROJECT_ROOT, "examples", "plugins");
const ANSWER_MS = 30_000;
const SYNC_MS = 10_000;

// Clients -----------------------------------------------------------------------------------------

export interface GatewayRequest {
  method?: string;
  headers?: Record<string, string | string[]>;
  body?: string | Buffer;
  /** Leaves, whether an answer has come or not. */
  signal?: AbortSignal;
}

/** An answer whose body is still to come. */
export interface OpenReply {
  status: number;
  /** By lower-case name; repeated fields joined by ", ", except set-cookie: see cookies. */
  headers: Record<string, string | undefined>;
  cookies: string[];
  /** Pieces as they come. */
  body: AsyncIterable<Buffer>;
  /** Leaves, whatever is still to come. */
  leave(): void;
}

export interface GatewayReply extends Omit<OpenReply, "body" | "leave"> {
  body: Buffer;
  text: string;
  json<T = Record<string, unknown>>(): T;
}

/** One way to reach the gateway. Each request has a connection of its own. */
export interface GatewayClient {
  readonly protocol: "HTTP/1.1" | "HTTP/2 with TLS";
  open(path: string, request?: GatewayRequest): Promise<OpenReply>;
  ask(path: string, request?: GatewayRequest): Promise<GatewayReply>;
}

type RawHeaders = Record<string, string | string[] | number | undefined>;

function plainHeaders(raw: RawHeaders): Pick<OpenReply, "headers" | "cookies"> {
  const headers: OpenReply["headers"] = {};
  for (const [name, value] of Object.entries(raw)) {
    if (name.startsWith(":") || value === undefined) continue;
    headers[name] = Array.isArray(value) ? value.join(", ") : String(value);
  }
  const cookies = raw["set-cookie"];
  return { headers, cookies: Array.isArray(cookies) ? cookies : [] };
}

async function collect(reply: OpenReply): Promise<GatewayReply> {
  const pieces: Buffer[] = [];
  for await (const piece of reply.body) pieces.push(piece);
  const body = Buffer.concat(pieces);
  const text = body.toString();
  return {
    status: reply.status,
    headers: reply.headers,
    cookies: reply.cookies,
    body,
    text,
    json<T>() {
      try {
        return JSON.parse(text) as T;
      } catch {
        throw new Error(`status ${String(reply.status)}, not JSON: ${text.slice(0, 500)}`);
      }
    },
  };
}

function openHttp1(port: number, path: string, request: GatewayRequest): Promise<OpenReply> {
  return new Promise((resolve, reject) => {
    const message = requestHttp1({
      ...{ host: "127.0.0.1", port, path, agent: false },
      method: request.method ?? "GET",
      headers: request.headers ?? {},
    });
    message.once("error", reject);
    request.signal?.addEventListener("abort", () => message.destroy(new Error("the client left")));
    message.once("response", (answer) => {
      resolve({
        status: answer.statusCode ?? 0,
        ...plainHeaders(answer.headers),
        body: answer as AsyncIterable<Buffer>,
        leave: () => message.destroy(),
      });
    });
    message.end(request.body);
  });
}

function openHttp2(port: number, path: string, request: GatewayRequest): Promise<OpenReply> {
  return new Promise((resolve, reject) => {
    const session = connect(`https://localhost:${String(port)}`, {
      ca: certificate().cert,
      lookup: (_name, options, callback) => {
        if (options.all === true) callback(null, [{ address: "127.0.0.1", family: 4 }]);
        else callback(null, "127.0.0.1", 4);
      },
    });
    session.once("error", reject);
    const stream = session.request({
      ":method": request.method ?? "GET",
      ":path": path,
      ...request.headers,
    });
    stream.once("error", reject);
    request.signal?.addEventListener("abort", () => session.destroy(new Error("the client left")));
    stream.once("close", () => session.destroy());
    stream.once("response", (headers) => {
      resolve({
        status: headers[":status"] ?? 0,
        ...plainHeaders(headers),
        body: stream as AsyncIterable<Buffer>,
        leave: () => session.destroy(),
      });
    });
    stream.end(request.body);
  });
}

export function makeClient(protocol: GatewayClient["protocol"], port: number): GatewayClient {
  const send = protocol === "HTTP/1.1" ? openHttp1 : openHttp2;
  const open: GatewayClient["open"] = (path, request = {}) =>
    within(`an answer to ${path}`, send(port, path, request), ANSWER_MS);
  return {
    protocol,
    open,
    ask: async (path, request) =>
      within(`the whole answer to ${path}`, collect(await open(path, request)), ANSWER_MS),
  };
}

// A certificate for localhost ---------------------------------------------------------------------

let made: { cert: string; key: string } | undefined;

export function certificate(): { cert: string; key: string } {
  if (made === undefined) {
    const folder = mkdtempSync(join(tmpdir(), "rts-test-tls-"));
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const args =
      "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost";
    const names = ["-addext", "subjectAltName=DNS:localhost"];
    execFileSync("openssl", [...args.split(" "), ...names, "-keyout", key, "-out", cert], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    made = { cert: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
    rmSync(folder, { recursive: true });
  }
  return made;
}

// The upstream ------------------------------------------------------------------------------------

/** A request as the upstream got it. */
export interface Seen {
  method: string;
  url: string;
  /** By lower-case name, repeated ones joined by ", ". */
  headers: Record<string, string>;
  body: string;
}

export type UpstreamHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  body: Buffer,
) => void | Promise<void>;

/** Answers with what it saw, as JSON, unless a path has a handler of its own. */
export class Upstream {
  readonly seen: Seen[] = [];
  readonly #server: Server;
  readonly #name: string;
  readonly #handlers = new Map<string, UpstreamHandler>();

  private constructor(name: string) {
    this.#name = name;
    this.#server = createServer((request, response) => {
      void this.#serve(request, response).catch((error: unknown) => {
        if (!response.headersSent) response.statusCode = 500;
        response.end(String(error));
      });
    });
  }

  static async start(name = "upstream"): Promise<Upstream> {
    const upstream = new Upstream(name);
    await new Promise<void>((resolve) => upstream.#server.listen(0, "127.0.0.1", resolve));
    return upstream;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${String(this.port)}`;
  }

  /** @param path of requests that this answers, without the query. */
  on(path: string, handler: UpstreamHandler): void {
    this.#handlers.set(path, handler);
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const pieces: Buffer[] = [];
    for await (const piece of request as AsyncIterable<Buffer>) pieces.push(piece);
    const body = Buffer.concat(pieces);
    const url = request.url ?? "";
    const seen: Seen = {
      method: request.method ?? "",
      url,
      headers: plainHeaders(request.headers).headers as Record<string, string>,
      body: body.toString(),
    };
    this.seen.push(seen);
    const handler = this.#handlers.get(url.split("?", 1)[0] ?? "");
    if (handler !== undefined) return handler(request, response, body);
    response.setHeader("content-type", "application/json");
    response.end(JSON.stringify({ server: this.#name, ...seen }));
    return undefined;
  }
}

// The gateway -------------------------------------------------------------------------------------

export interface GatewayOptions extends Omit<
  NginxOptions,
  "listen" | "locations" | "http" | "initWorker"
> {
  /** As those of NginxOptions; may tell the upstream's address. */
  http?: (gateway: GatewayPlaces) => string;
  initWorker?: (gateway: GatewayPlaces) => string;
  locations: (gateway: GatewayPlaces) => Record<string, string>;
}

export interface GatewayPlaces {
  upstream: Upstream;
}

export class Gateway implements GatewayPlaces {
  readonly nginx: Nginx;
  readonly upstream: Upstream;
  readonly clients: readonly GatewayClient[];

  private constructor(nginx: Nginx, upstream: Upstream, tlsPort: number) {
    this.nginx = nginx;
    this.upstream = upstream;
    this.clients = [
      makeClient("HTTP/1.1", nginx.port ?? 0),
      makeClient("HTTP/2 with TLS", tlsPort),
    ];
  }

  static async start(options: GatewayOptions): Promise<Gateway> {
    const upstream = await Upstream.start();
    try {
      const tlsPort = await findPort();
      const { cert, key } = certificate();
      const nginx = await Nginx.start({
        ...options,
        // A busy machine must not let a filter's response pass: that is not what is tested.
        ts: { plugins: EXAMPLE_PLUGINS, sync_timeout_ms: SYNC_MS, ...options.ts },
        http: options.http?.({ upstream }) ?? "",
        initWorker: options.initWorker?.({ upstream }) ?? "",
        locations: options.locations({ upstream }),
        files: { "conf/cert.pem": cert, "conf/key.pem": key, ...options.files },
        server: `
          listen 127.0.0.1:${String(tlsPort)} ssl http2;
          ssl_certificate cert.pem;
          ssl_certificate_key key.pem;
          ${options.server ?? ""}`,
      });
      return new Gateway(nginx, upstream, tlsPort);
    } catch (error) {
      await upstream.stop();
      throw error;
    }
  }

  async stop(): Promise<void> {
    try {
      await this.nginx.stop();
    } finally {
      await this.upstream.stop();
    }
  }
}

/**
 * A suite with one gateway, whose tests run once for each way to reach it.
 *
 * @param define registers the tests; `gateway()` is there when they run.
 */
export function describeGateway(
  title: string,
  options: () => GatewayOptions | Promise<GatewayOptions>,
  define: (gateway: () => Gateway, client: GatewayClient) => void,
): void {
  describe(title, () => {
    let gateway: Gateway | undefined;
    const get = (): Gateway => {
      if (gateway === undefined) throw new Error("the gateway did not start");
      return gateway;
    };
    before(async () => {
      gateway = await Gateway.start(await options());
    });
    after(async () => {
      await gateway?.stop();
    });
    for (const [index, protocol] of (["HTTP/1.1", "HTTP/2 with TLS"] as const).entries()) {
      describe(`over ${protocol}`, () => {
        const client = (): GatewayClient => get().clients[index]!;
        define(get, {
          protocol,
          open: (path, request) => client().open(path, request),
          ask: (path, request) => client().ask(path, request),
        });
      });
    }
  });
}
