/**
 * Applies what a phase answers, in its order: the counterpart of lua/resty/ts/http/changes.lua.
 *
 * Invariant: what ends the list (an answer, questions, a stream, a failure) is returned, not done.
 */
import { carry } from "../http/carried.js";
import { Change, fromWire } from "../http/changes.js";
import { messageOf } from "./calls.js";
import type { RequestState } from "./request-state.js";

/** What nginx has refused: the handler's changes are undone. */
export interface Refused {
  readonly plugin: string;
  /** Of its policy. */
  readonly status: number;
  readonly text: string;
}

export type Ending =
  | { readonly kind: "exit"; readonly status: number; readonly body: Uint8Array | null }
  | {
      readonly kind: "ask";
      readonly run: number;
      readonly asked: readonly unknown[][];
      readonly refused: string | undefined;
    }
  | {
      readonly kind: "stream";
      readonly id: number;
      readonly status: number;
      readonly chunk: Uint8Array;
    }
  | { readonly kind: "failed"; readonly plugin: string; status: number; readonly text: string }
  | { readonly kind: "refused"; readonly plugin: string; status: number; readonly text: string };

type Wire = string | Uint8Array;

/** What a list may do beside the request's state. */
export interface Effects {
  /** In place of the chunk that the body filter was given. */
  chunk(bytes: Uint8Array): void;
  /** A failure that is let pass. */
  passed(plugin: string, text: string): void;
}

function bytesOf(value: Wire): Uint8Array {
  return typeof value === "string" ? new TextEncoder().encode(value) : new Uint8Array(value);
}

function valuesOf(value: Wire | readonly Wire[] | null): string[] {
  if (value === null) return [];
  return Array.isArray(value) ? (value as Wire[]).map(fromWire) : [fromWire(value as Wire)];
}

class List {
  readonly #state: RequestState;
  readonly #changes: readonly unknown[];
  readonly #effects: Effects;
  #at = 0;
  #refused: Refused | undefined;

  constructor(state: RequestState, changes: readonly unknown[], effects: Effects) {
    this.#state = state;
    this.#changes = changes;
    this.#effects = effects;
  }

  apply(): Ending | undefined {
    const ending = this.#until(this.#changes.length);
    const refused = this.#refused;
    if (refused === undefined) return ending;
    if (ending?.kind === "ask") return { ...ending, refused: refused.text };
    const text = `nginx refused a change: ${refused.text}`;
    if (ending === undefined && refused.status !== 0) return { kind: "failed", ...refused, text };
    // An answer stands.
    this.#effects.passed(refused.plugin, text);
    return ending;
  }

  #next(): unknown {
    return this.#changes[this.#at++];
  }

  #text(): string {
    return fromWire(this.#next() as Wire);
  }

  #optionalText(): string | undefined {
    const value = this.#next() as Wire | null;
    return value === null ? undefined : fromWire(value);
  }

  #until(stop: number): Ending | undefined {
    while (this.#at < stop) {
      const ending = this.#one();
      if (ending !== undefined) return ending;
    }
    return undefined;
  }

  /** A handler's changes: all of them, or none. */
  #group(): void {
    const handler = this.#next() as number;
    const [plugin, status] = [this.#text(), this.#next() as number | null];
    const count = this.#next() as number;
    const stop = this.#at + count;
    this.#state.beginJournal(handler);
    try {
      this.#until(stop);
    } catch (error) {
      // An answer, or one to the failure, has the response fields that were set.
      this.#state.undo(status !== 0);
      this.#refused = { plugin, status: status ?? 0, text: messageOf(error) };
    }
    this.#at = stop;
  }

  #one(): Ending | undefined {
    const state = this.#state;
    const code = this.#next() as number;
    switch (code) {
      case Change.requestField:
        state.setRequestField(this.#text(), valuesOf(this.#next() as Wire));
        break;
      case Change.method:
        state.method = this.#text();
        break;
      case Change.uri: {
        const uri = this.#optionalText();
        const args = this.#optionalText();
        state.setUri(uri, args, this.#text());
        this.#next(); // whether nginx would spell it otherwise: here it does not matter
        break;
      }
      case Change.requestBody:
        state.setBody(bytesOf(this.#next() as Wire));
        break;
      case Change.appendRequestField:
        state.appendRequestField(this.#text(), [this.#text()]);
        break;
      case Change.responseField:
        state.setResponseField(this.#text(), valuesOf(this.#next() as Wire));
        break;
      case Change.appendField:
        state.appendResponseField(this.#text(), [this.#text()]);
        break;
      case Change.writeField: {
        const what = this.#next() as number;
        const [name, values] = [this.#text(), valuesOf(this.#next() as Wire[])];
        if (what === Change.requestField) state.setRequestField(name, values);
        else if (what === Change.appendRequestField) state.appendRequestField(name, values);
        else if (what === Change.responseField) state.writeResponseField(name, values);
        else state.appendResponseField(name, values);
        break;
      }
      case Change.status:
        state.status = this.#next() as number;
        break;
      case Change.variable: {
        const name = this.#text();
        const value = this.#next() as Wire | null;
        state.setVariable(name, value === null ? undefined : fromWire(value));
        break;
      }
      case Change.ctx: {
        const key = this.#next() as string;
        const value = carry(this.#next());
        state.ctxKeys.add(key);
        if (value === null) Reflect.deleteProperty(state.ctx, key);
        else state.ctx[key] = value;
        break;
      }
      case Change.attachConsumer:
        state.attachConsumer(this.#text());
        break;
      case Change.upstream:
        state.upstreamAddress = { host: this.#text(), port: this.#next() as number | null };
        break;
      case Change.exit:
        return {
          kind: "exit",
          status: this.#next() as number,
          body: this.#next() as Uint8Array | null,
        };
      case Change.ask:
        return {
          kind: "ask",
          run: this.#next() as number,
          asked: this.#next() as unknown[][],
          refused: undefined,
        };
      case Change.stream: {
        const [id, status] = [this.#next() as number, this.#next() as number];
        return { kind: "stream", id, status, chunk: bytesOf(this.#next() as Wire) };
      }
      case Change.chunk:
        this.#effects.chunk(bytesOf(this.#next() as Wire));
        break;
      case Change.failed: {
        const [plugin, status] = [this.#text(), this.#next() as number];
        const text = String(this.#next());
        if (status !== 0) return { kind: "failed", plugin, status, text };
        this.#effects.passed(plugin, text);
        break;
      }
      case Change.refused:
        return {
          kind: "refused",
          plugin: this.#text(),
          status: this.#next() as number,
          text: String(this.#next()),
        };
      case Change.handler:
        this.#group();
        break;
      case Change.undo:
        state.undo();
        break;
      default:
        throw new Error(`protocol error: the change ${code}`);
    }
    return undefined;
  }
}

/** @returns what ends the list; undefined: nothing does. */
export function apply(
  state: RequestState,
  changes: readonly unknown[],
  effects: Effects,
): Ending | undefined {
  return new List(state, changes, effects).apply();
}
