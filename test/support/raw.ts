/**
 * Bytes as they are on the wire: a client that sends what it is told and keeps what it gets, and an
 * upstream that keeps what it gets and answers what it is told.
 */
import { connect, createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { within } from "./deadline.js";

const ANSWER_MS = 20_000;

/** A request as it came: the head without its blank line, and the body's bytes (latin1). */
export interface RawRequest {
  readonly head: string;
  readonly body: string;
}

/** The end of the body that begins at `at`, or -1: it is not all there yet. */
function endOfBody(head: string, bytes: string, at: number): number {
  if (/^transfer-encoding: *chunked *$/im.test(head)) {
    const end = /(?:^|\r\n)0\r\n\r\n/.exec(bytes.slice(at));
    return end === null ? -1 : at + end.index + end[0].length;
  }
  const end = at + Number(/^content-length: *(\d+) *$/im.exec(head)?.[1] ?? 0);
  return bytes.length < end ? -1 : end;
}

export class RawUpstream {
  readonly seen: RawRequest[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(answer: (request: RawRequest) => string) {
    this.#server = createServer((socket) => {
      let bytes = "";
      this.#sockets.add(socket);
      socket.on("close", () => this.#sockets.delete(socket));
      socket.on("error", () => socket.destroy());
      socket.setEncoding("latin1");
      socket.on("data", (piece: string) => {
        bytes += piece;
        for (;;) {
          const at = bytes.indexOf("\r\n\r\n") + 4;
          if (at < 4) return;
          const head = bytes.slice(0, at - 4);
          const end = endOfBody(head, bytes, at);
          if (end < 0) return;
          const request = { head, body: bytes.slice(at, end) };
          bytes = bytes.slice(end);
          this.seen.push(request);
          socket.write(answer(request), "latin1");
        }
      });
    });
  }

  /** @param answer the bytes of the response (latin1). */
  static async start(answer: (request: RawRequest) => string): Promise<RawUpstream> {
    const upstream = new RawUpstream(answer);
    await new Promise<void>((resolve) => upstream.#server.listen(0, "127.0.0.1", resolve));
    return upstream;
  }

  get url(): string {
    return `http://127.0.0.1:${String((this.#server.address() as AddressInfo).port)}`;
  }

  stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }
}

/** A response with this body and its length. */
export function respond(body: string, ...fields: string[]): string {
  const head = ["HTTP/1.1 200 OK", `Content-Length: ${String(body.length)}`, ...fields];
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

/** Sends these bytes, and collects what comes (latin1) until the server closes the connection. */
export function rawAsk(port: number, bytes: string): Promise<string> {
  const received = new Promise<string>((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    let text = "";
    socket.setEncoding("latin1");
    socket.on("data", (piece: string) => (text += piece));
    socket.on("error", reject);
    socket.on("close", () => resolve(text));
    socket.write(bytes, "latin1");
  });
  return within(`an answer to ${bytes.slice(0, 60)}`, received, ANSWER_MS);
}

/** A request's bytes. Without a body it has no Content-Length. */
export function rawRequest(
  line: string,
  { fields = [], body }: { fields?: readonly string[]; body?: string } = {},
): string {
  const head = [`${line} HTTP/1.1`, "Host: test", ...fields];
  if (body !== undefined && !fields.some((field) => /^transfer-encoding:/i.test(field))) {
    head.push(`Content-Length: ${String(body.length)}`);
  }
  return `${head.join("\r\n")}\r\n\r\n${body ?? ""}`;
}

/** One that the server closes the connection after. */
export const LAST = rawRequest("GET /_up", { fields: ["Connection: close"] });

export interface RawResponse {
  readonly status: number;
  /** By lower-case name; of several the last. */
  readonly fields: Readonly<Record<string, string>>;
  readonly head: string;
  readonly body: string;
  /** It ends before its length, or its last chunk. */
  readonly cut: boolean;
}

/** Takes chunks apart, from `at` on. */
function dechunk(bytes: string, at: number): { body: string; end: number; cut: boolean } {
  let body = "";
  for (;;) {
    const stop = bytes.indexOf("\r\n", at);
    const size = stop < 0 ? NaN : Number.parseInt(bytes.slice(at, stop), 16);
    const end = stop + 2 + size;
    if (!(end + 2 <= bytes.length)) return { body, end: bytes.length, cut: true };
    if (size === 0) return { body, end: end + 2, cut: false };
    body += bytes.slice(stop + 2, end);
    at = end + 2;
  }
}

/**
 * The responses of one connection, in their order. What is left over after a whole one must begin
 * with the next: else it is given as one with status 0.
 *
 * @param methods of the requests that they answer; "GET" when left out.
 */
export function rawResponses(bytes: string, methods: readonly string[] = []): RawResponse[] {
  const all: RawResponse[] = [];
  let at = 0;
  while (at < bytes.length) {
    const stop = bytes.indexOf("\r\n\r\n", at);
    const head = bytes.slice(at, stop < 0 ? bytes.length : stop);
    const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1] ?? 0);
    if (stop < 0 || status === 0) {
      all.push({ status: 0, fields: {}, head: "", body: bytes.slice(at), cut: true });
      return all;
    }
    const fields = Object.fromEntries(
      head
        .split("\r\n")
        .slice(1)
        .map((line) => [line.split(":", 1)[0]!.toLowerCase(), line.replace(/^[^:]*: */, "")]),
    );
    at = stop + 4;
    const length = fields["content-length"];
    let body = "";
    let cut = false;
    if (methods[all.length] === "HEAD" || status === 204 || status === 304) {
      // nothing
    } else if (fields["transfer-encoding"] === "chunked") {
      ({ body, end: at, cut } = dechunk(bytes, at));
    } else {
      const end = length === undefined ? bytes.length : at + Number(length);
      body = bytes.slice(at, end);
      cut = end > bytes.length;
      at = end;
    }
    all.push({ status, fields, head, body, cut });
  }
  return all;
}
