/**
 * `ctx.request.query`, whose changes change the request, and `ctx.request.url`, which cannot be
 * changed.
 *
 * Invariant: an argument that a change does not name keeps its bytes.
 */
import { escapeBytes, type Target } from "./target.js";

export const URL_IS_FIXED = "ctx.request.url cannot be changed: set ctx.request.path, query or uri";

interface Piece {
  /** As on the wire, without "&". */
  readonly raw: string;
  /** undefined: it is empty, and no argument. */
  readonly pair: readonly [name: string, value: string] | undefined;
}

function pieceOf(name: string, value: string): Piece {
  return { raw: new URLSearchParams([[name, value]]).toString(), pair: [name, value] };
}

export class Query extends URLSearchParams {
  #args: string;
  readonly #check: () => void;
  readonly #changed: ((args: string) => void) | undefined;

  /**
   * @param args as on the wire, without "?".
   * @param check throws when it may not be changed.
   */
  constructor(args: string, check: () => void, changed?: (args: string) => void) {
    // Without "?" before it, one that is the first argument's would be taken away.
    super(`?${escapeBytes(args)}`);
    this.#args = args;
    this.#check = check;
    this.#changed = changed;
  }

  /** As on the wire. */
  get raw(): string {
    return this.#args;
  }

  override append(name: string, value: string): void {
    this.#change((pieces) => [...pieces, pieceOf(String(name), String(value))]);
  }

  override delete(name: string, value?: string): void {
    this.#change((pieces) =>
      pieces.filter(
        ({ pair }) =>
          pair?.[0] !== String(name) || (value !== undefined && pair[1] !== String(value)),
      ),
    );
  }

  override set(name: string, value: string): void {
    this.#change((pieces) => {
      const made = pieceOf(String(name), String(value));
      const first = pieces.findIndex(({ pair }) => pair?.[0] === made.pair![0]);
      if (first < 0) return [...pieces, made];
      const same = pieces[first]!.pair![1] === made.pair![1];
      return pieces
        .map((piece, i) => (i === first && !same ? made : piece))
        .filter(({ pair }, i) => i === first || pair?.[0] !== made.pair![0]);
    });
  }

  override sort(): void {
    this.#change((pieces) =>
      pieces
        .filter(({ pair }) => pair !== undefined)
        .sort((a, b) => (a.pair![0] < b.pair![0] ? -1 : Number(a.pair![0] > b.pair![0]))),
    );
  }

  /** The request's query was changed elsewhere. */
  follow(args: string): void {
    if (args === this.#args) return;
    this.#args = args;
    this.#fill(new URLSearchParams(`?${escapeBytes(args)}`));
  }

  #change(edit: (pieces: Piece[]) => Piece[]): void {
    this.#check();
    const pairs = [...super.entries()];
    let at = 0;
    const pieces = this.#args
      .split("&")
      .map((raw): Piece => ({ raw, pair: raw === "" ? undefined : pairs[at++] }));
    const made = edit(this.#args === "" ? [] : pieces);
    const args = made.map(({ raw }) => raw).join("&");
    if (args === this.#args) return;
    this.#args = args;
    this.#fill(made.flatMap(({ pair }) => (pair === undefined ? [] : [pair])));
    this.#changed?.(args);
  }

  #fill(pairs: Iterable<readonly [string, string]>): void {
    for (const name of new Set(super.keys())) super.delete(name);
    for (const [name, value] of pairs) super.append(name, value);
  }
}

export class RequestUrl extends URL {
  private readonly args: string;
  private params: Query | undefined = undefined;

  constructor(origin: string, target: Target) {
    super(origin + target.pathname + target.search);
    this.args = target.args ?? "";
  }

  static {
    const refuse = (): never => {
      throw new TypeError(URL_IS_FIXED);
    };
    const inherited = Object.getOwnPropertyDescriptors(URL.prototype);
    for (const [name, descriptor] of Object.entries(inherited)) {
      if (descriptor.set === undefined) continue;
      Object.defineProperty(this.prototype, name, { ...descriptor, set: refuse });
    }
    Object.defineProperty(this.prototype, "searchParams", {
      get(this: RequestUrl): URLSearchParams {
        return (this.params ??= new Query(this.args, refuse));
      },
      set: refuse,
      enumerable: true,
    });
  }
}

/** What may be set as a query, as text. */
export function queryText(given: unknown): string {
  if (typeof given === "string") return given;
  if (typeof given !== "object" || given === null) {
    throw new TypeError(
      `invalid query: expected text, URLSearchParams or an object, not ${String(given)}`,
    );
  }
  return new URLSearchParams(given as Record<string, string>).toString();
}
