/**
 * The constant load: connections that ask the neighbours one thing after the other, each with a
 * payload that no other call has, and look at every answer.
 */
import type { Client } from "undici";
import { sleep } from "../support/deadline.js";
import type { Random } from "../fuzz/random.js";
import { openClient, SYNC_TIMEOUT_MS } from "./site.js";
import { now, type Tally } from "./tally.js";
import type { Windows } from "./windows.js";

interface Reply {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  text: string;
}

interface Kind {
  path: string;
  /** How often, beside the others. */
  weight: number;
  /** Characters of the payload, at most. */
  size: number;
  /** Whether it goes in a field of the request rather than in its body. */
  field?: true;
  /** What each of its calls notes. */
  notes: string[];
  /** Whether it may be begun more than once. */
  repeatable?: true;
  /** What takes so long may be "refused": nginx does not wait longer for a filter. */
  passesAfterMs?: number;
  /** Undefined when the answer is right; else a code, or "wrong". */
  judge(id: string, text: string, reply: Reply): string | undefined;
}

function judgeModule(id: string, text: string, reply: Reply): string | undefined {
  const { value, code } = JSON.parse(reply.text) as { value?: unknown; code?: string };
  if (code !== undefined) return code;
  return JSON.stringify(value) === JSON.stringify([id, text]) ? undefined : "wrong";
}

const KINDS: Record<string, Kind> = {
  echo: { path: "/echo", weight: 4, size: 200, notes: [""], judge: judgeModule },
  large: { path: "/echo", weight: 1, size: 400_000, notes: [""], judge: judgeModule },
  late: { path: "/late", weight: 3, size: 200, notes: [""], judge: judgeModule },
  again: {
    path: "/again",
    weight: 3,
    size: 200,
    notes: [""],
    repeatable: true,
    judge: judgeModule,
  },
  access: {
    path: "/access",
    weight: 3,
    size: 0,
    field: true,
    notes: [" access"],
    judge: (id, _text, { status, text }) =>
      status === 200 && text === `access ${id}` ? undefined : status >= 500 ? "refused" : "wrong",
  },
  filter: {
    path: "/filter",
    weight: 2,
    size: 0,
    field: true,
    notes: [" access", " filter"],
    passesAfterMs: SYNC_TIMEOUT_MS,
    judge: (id, _text, { status, headers, text }) => {
      if (status >= 500) return "refused";
      if (headers["x-filter"] === `filter ${id}` && text === "plain") return undefined;
      return headers["x-filter"] === undefined ? "refused" : "wrong";
    },
  },
};

const ALPHABET = [...'abcdefghijklmnopqrstuvwxyz0123456789 äöü€😀"\\\n'];
/** Between two requests of a connection, at most. */
const PAUSE_MS = 4;

/** A call that was made. */
export interface Made {
  answered: boolean;
  readonly repeatable: boolean;
}

export interface LoadOptions {
  site: string;
  url: string;
  connections: number;
  tally: Tally;
  windows: Windows;
  random: Random;
  /** What was done to the site last. */
  lastFault: () => string;
  /** The end of the error log. */
  log: (worker: number | undefined) => string;
}

export class Load {
  /** By what each call notes when it is begun. */
  readonly made = new Map<string, Made>();
  readonly #options: LoadOptions;
  readonly #wheel: Kind[] = [];
  readonly #names = new Map<Kind, string>();
  readonly #loops: Promise<void>[];
  #running = true;

  constructor(options: LoadOptions) {
    this.#options = options;
    for (const [name, kind] of Object.entries(KINDS)) {
      this.#names.set(kind, name);
      for (let i = 0; i < kind.weight; i++) this.#wheel.push(kind);
    }
    this.#loops = Array.from({ length: options.connections }, (_, i) => this.#loop(i));
  }

  async stop(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#loops);
  }

  async #loop(number: number): Promise<void> {
    const { random, url } = this.#options;
    const client = openClient(url);
    const connection = { worker: undefined as number | undefined };
    client.on("disconnect", () => {
      connection.worker = undefined;
    });
    for (let i = 0; this.#running; i++) {
      await this.#ask(client, connection, random.pick(this.#wheel), `${number}-${i}`);
      await sleep(random.below(PAUSE_MS + 1));
    }
    await client.destroy();
  }

  #text(size: number): string {
    const { random } = this.#options;
    let text = "";
    // Long ones repeat themselves, from a place of their own.
    for (let n = random.below(Math.min(size, 200) + 1); n > 0; n--) {
      text += ALPHABET[random.below(ALPHABET.length)]!;
    }
    return size > 200 ? text.repeat(Math.ceil(random.below(size) / 200)) : text;
  }

  async #ask(
    client: Client,
    connection: { worker: number | undefined },
    kind: Kind,
    id: string,
  ): Promise<void> {
    const { tally, windows, site, lastFault, log } = this.#options;
    const text = this.#text(kind.size);
    const from = now();
    let code: string | undefined;
    let detail = "";
    // The connection may be gone, and its worker forgotten, before the failure is seen.
    let worker = connection.worker;
    const made: Made = { answered: false, repeatable: kind.repeatable ?? false };
    for (const note of kind.notes) this.made.set(id + note, made);
    tally.calls++;
    try {
      const answer = await client.request({
        path: kind.path,
        method: "POST",
        headers: { "x-id": id },
        body: kind.field ? null : text,
      });
      const reply = {
        status: answer.statusCode,
        headers: answer.headers,
        text: await answer.body.text(),
      };
      worker = connection.worker = Number(reply.headers["x-worker"]);
      code = reply.status === 200 || kind.field ? kind.judge(id, text, reply) : "wrong";
      if (code !== undefined) detail = `${String(reply.status)} ${reply.text.slice(0, 300)}`;
    } catch (error) {
      code = "cut";
      detail = String(error);
    }
    if (code === undefined) {
      made.answered = true;
      return;
    }
    const name = this.#names.get(kind)!;
    if (code === "refused" && now() - from >= (kind.passesAfterMs ?? Infinity)) {
      tally.passed++;
      return;
    }
    if (code !== "wrong" && windows.excuse({ kind: name, code, worker, from, to: now() })) {
      tally.excused++;
      return;
    }
    const ms = (now() - from).toFixed(0);
    tally.fail(
      site,
      `${name} ${id}, worker ${String(worker)}, ${ms} ms: ${code}: ${detail}\n${log(worker)}`,
      lastFault(),
    );
  }
}
