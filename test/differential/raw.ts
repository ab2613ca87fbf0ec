/** HTTP/1 as bytes: a client and an upstream on unix sockets, and messages taken apart for comparing. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { until, within } from "../support/deadline.js";

const ANSWER_MS = 20_000;

export interface Message {
  /** Request or status line. */
  line: string;
  /** Names as they are spelt, values without the white space around them. */
  fields: [name: string, value: string][];
  body: string;
}

/** The head that ends at the first empty line, and where it ends; undefined: it has not come. */
export function parseHead(text: string): (Message & { end: number }) | undefined {
  const at = text.indexOf("\r\n\r\n");
  if (at < 0) return undefined;
  const [line = "", ...rest] = text.slice(0, at).split("\r\n");
  const fields = rest.map((field): [string, string] => {
    // nginx takes one without a colon for a name.
    const colon = field.includes(":") ? field.indexOf(":") : field.length;
    return [field.slice(0, colon), field.slice(colon + 1).replace(/^[ \t]+|[ \t]+$/g, "")];
  });
  return { line, fields, body: "", end: at + 4 };
}

export function valuesOf({ fields }: Message, lower: string): string[] {
  return fields.filter(([name]) => name.toLowerCase() === lower).map(([, value]) => value);
}

export const whole = ({ line, fields, body }: Message): Message => ({ line, fields, body });

export function without(message: Message, ...lower: string[]): Message {
  const fields = message.fields.filter(([name]) => !lower.includes(name.toLowerCase()));
  return { ...whole(message), fields };
}

/** The content of a chunked body, and where it ends. */
function dechunk(text: string, from: number): { body: string; end: number } {
  let body = "";
  let at = from;
  for (;;) {
    const line = text.indexOf("\r\n", at);
    if (line < 0) return { body: `${body}[cut]`, end: text.length };
    const size = Number.parseInt(text.slice(at, line), 16);
    if (size === 0) return { body, end: text.indexOf("\r\n\r\n", line) + 4 };
    body += text.slice(line + 2, line + 2 + size);
    at = line + 2 + size + 2;
  }
}

/** @param methods of the requests that were sent on the connection, in their order. */
export function parseResponses(text: string, methods: readonly string[]): Message[] {
  const responses: Message[] = [];
  let at = 0;
  let answered = 0;
  while (at < text.length) {
    const head = parseHead(text.slice(at));
    if (head === undefined) {
      responses.push({ line: "", fields: [], body: text.slice(at) });
      break;
    }
    at += head.end;
    const { line, fields } = head;
    const status = Number(line.split(" ")[1]);
    const response = { line, fields, body: "" };
    responses.push(response);
    if (status < 200) continue;
    const method = methods[answered++];
    if (method === "HEAD" || status === 204 || status === 304) continue;
    const length = valuesOf(head, "content-length")[0];
    let end = text.length;
    if (valuesOf(head, "transfer-encoding").length > 0) {
      ({ body: response.body, end } = dechunk(text, at));
    } else {
      if (length !== undefined) end = Math.min(end, at + Number(length));
      response.body = text.slice(at, end);
    }
    at = end;
  }
  return responses;
}

/** Sends bytes and gives all that comes until the server closes. */
export async function exchange(socketPath: string, bytes: string): Promise<string> {
  const pieces: Buffer[] = [];
  const socket = connect(socketPath);
  const closed = new Promise<void>((resolve) => {
    socket.on("data", (piece) => pieces.push(piece));
    // A server that closes before it has read everything resets: what came before that counts.
    socket.on("error", () => undefined);
    socket.on("close", () => {
      resolve();
    });
  });
  socket.write(Buffer.from(bytes, "latin1"));
  try {
    await within("the server answers and closes", closed, ANSWER_MS);
  } finally {
    socket.destroy();
  }
  return Buffer.concat(pieces).toString("latin1");
}

/** What the upstream got on one connection: a request, and whatever came after it. */
export interface Received extends Message {
  /** Which request of the client's it is: its field X-N. */
  readonly n: string | undefined;
  readonly bytes: string;
}

/**
 * Takes one request on each connection and notes all bytes that come, also behind the body: nginx
 * sends none there.
 */
export class RawUpstream {
  readonly path: string;
  readonly #server: Server;
  readonly #open = new Set<Socket>();
  #received: Received[] = [];
  /** X-N -> the bytes to answer with; to HEAD their head alone. */
  replies: ReadonlyMap<string, string> = new Map();

  constructor(path: string) {
    this.path = path;
    this.#server = createServer((socket) => {
      this.#serve(socket);
    });
  }

  listen(): Promise<void> {
    return new Promise((resolve) => this.#server.listen(this.path, resolve));
  }

  close(): Promise<void> {
    for (const socket of this.#open) socket.destroy();
    return new Promise((resolve) => this.#server.close(() => resolve()));
  }

  /** What has come since it was taken last, once all connections are closed. */
  async take(): Promise<Received[]> {
    await until("nginx closes its connections to the upstream", () => this.#open.size === 0);
    const received = this.#received;
    this.#received = [];
    return received;
  }

  #serve(socket: Socket): void {
    this.#open.add(socket);
    const pieces: Buffer[] = [];
    let bytes = 0;
    let wanted = Infinity;
    let answered = false;
    socket.on("data", (piece) => {
      pieces.push(piece);
      bytes += piece.length;
      if (wanted === Infinity) {
        const head = parseHead(Buffer.concat(pieces).toString("latin1"));
        if (head === undefined) return;
        wanted = head.end + Number(valuesOf(head, "content-length")[0] ?? 0);
      }
      if (answered || bytes < wanted) return;
      answered = true;
      const head = parseHead(Buffer.concat(pieces).toString("latin1"))!;
      const reply = this.replies.get(valuesOf(head, "x-n")[0] ?? "") ?? "HTTP/1.1 200 OK\r\n\r\n";
      const shown = head.line.startsWith("HEAD ") ? reply.slice(0, parseHead(reply)!.end) : reply;
      socket.end(Buffer.from(shown, "latin1"));
    });
    socket.on("error", () => undefined); // nginx may leave before it has everything
    socket.on("close", () => {
      this.#open.delete(socket);
      const text = Buffer.concat(pieces).toString("latin1");
      const head = parseHead(text) ?? { line: "", fields: [], end: 0 };
      const { line, fields, end } = head;
      const n = valuesOf({ line, fields, body: "" }, "x-n")[0];
      this.#received.push({ n, bytes: text, line, fields, body: text.slice(end) });
    });
  }
}
