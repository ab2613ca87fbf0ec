/**
 * Constant load of requests whose answers are checked one by one.
 *
 * Thread: the tests' own. Invariant: each request is counted once, as answered, as failed, or as
 * closed: on a connection that was kept and that nginx closed before it has sent anything, which
 * HTTP lets a server do (RFC 9112, 9.3.1), and after which a client sends a GET again.
 */
import { Client } from "undici";
import type { Reply } from "../support/clients.js";

export interface Kind {
  readonly name: string;
  /** @returns what the request may not come before, for `check`. */
  before(): number;
  path(n: number): string;
  /** @returns what is wrong with the answer, or undefined. */
  check(
    reply: Pick<Reply, "status" | "headers" | "text">,
    n: number,
    before: number,
  ): string | undefined;
}

export interface TrafficOptions {
  readonly origin: string;
  readonly kinds: readonly Kind[];
  readonly connections: number;
  /** Whether a connection serves many requests. */
  readonly keepAlive: boolean;
}

const MOST_FAILURES_TOLD = 20;
const TIMEOUT_MS = 30_000;

export class Traffic {
  readonly #options: TrafficOptions;
  readonly #workers: Promise<void>[] = [];
  #stopped = false;
  #sent = 0;
  answered = 0;
  failed = 0;
  closed = 0;
  readonly failures: string[] = [];

  constructor(options: TrafficOptions) {
    this.#options = options;
    for (let i = 0; i < options.connections; i++) this.#workers.push(this.#work());
  }

  /** Resolves when all that was sent has been answered. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await Promise.all(this.#workers);
  }

  async #work(): Promise<void> {
    let client = this.#open();
    let served = 0;
    while (!this.#stopped) {
      const n = this.#sent++;
      const kind = this.#options.kinds[n % this.#options.kinds.length]!;
      const { wrong, closed } = await this.#ask(client, kind, n, served > 0);
      served++;
      if (closed) this.closed++;
      else if (wrong === undefined) this.answered++;
      else {
        this.failed++;
        if (this.failures.length < MOST_FAILURES_TOLD) {
          this.failures.push(`${kind.name} ${String(n)}: ${wrong}`);
        }
      }
      if (closed || wrong !== undefined || !this.#options.keepAlive) {
        await client.destroy();
        client = this.#open();
        served = 0;
      }
    }
    await client.destroy();
  }

  #open(): Client {
    return new Client(this.#options.origin, {
      headersTimeout: TIMEOUT_MS,
      bodyTimeout: TIMEOUT_MS,
    });
  }

  async #ask(
    client: Client,
    kind: Kind,
    n: number,
    isKept: boolean,
  ): Promise<{ wrong?: string; closed?: boolean }> {
    const before = kind.before();
    let begun = false;
    try {
      const { statusCode, headers, body } = await client.request({
        path: kind.path(n),
        method: "GET",
        reset: !this.#options.keepAlive,
      });
      begun = true;
      const text = Buffer.from(await body.arrayBuffer()).toString();
      const wrong = kind.check({ status: statusCode, headers, text }, n, before);
      return wrong === undefined ? {} : { wrong };
    } catch (error) {
      const { code, message } = error as { code?: string; message: string };
      const isClose = code === "UND_ERR_SOCKET" || code === "ECONNRESET" || code === "EPIPE";
      if (isKept && !begun && isClose) return { closed: true };
      return { wrong: `${code ?? ""} ${message}, ${begun ? "in its body" : "no answer"}` };
    }
  }
}
