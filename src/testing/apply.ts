/**
 * Applies what a phase answers, in its order: the counterpart of lua/resty/ts/http/changes.lua.
 *
 * Invariant: what ends the list (an answer, questions, a stream, a failure) is returned, not done.
 */
import { Change, fromWire } from "../http/changes.js";
import type { RequestState } from "./request-state.js";

/** nginx's methods: ngx.HTTP_… in Lua. */
export const METHODS: ReadonlySet<string> = new Set([
  ..."GET HEAD PUT POST DELETE OPTIONS MKCOL COPY MOVE PROPFIND PROPPATCH LOCK UNLOCK".split(" "),
  ..."PATCH TRACE".split(" "),
]);

export type Ending =
  | { readonly kind: "exit"; readonly status: number; readonly body: Uint8Array | null }
  | { readonly kind: "ask"; readonly run: number; readonly asked: readonly unknown[][] }
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
  keep(): void;
}

/**
 * A value that has been to Lua and back: a copy, without what is undefined.
 * @param value one that checkCarried lets pass.
 */
export function carry(value: unknown): unknown {
  if (value instanceof Uint8Array) return new Uint8Array(value);
  if (Array.isArray(value)) return value.map(carry);
  if (typeof value !== "object" || value === null) return value;
  const entries = Object.entries(value).filter(([, item]) => item !== undefined);
  return Object.fromEntries(entries.map(([key, item]) => [key, carry(item)]));
}

function bytesOf(value: Wire): Uint8Array {
  return typeof value === "string" ? new TextEncoder().encode(value) : new Uint8Array(value);
}

function valuesOf(value: Wire | readonly Wire[] | null): string[] {
  if (value === null) return [];
  return Array.isArray(value) ? (value as Wire[]).map(fromWire) : [fromWire(value as Wire)];
}

function setMethod(state: RequestState, name: string): void {
  if (!METHODS.has(name)) {
    throw new Error(`the method cannot be set to ${name}: nginx does not know it`);
  }
  if ((name === "HEAD") !== (state.method === "HEAD")) {
    throw new Error("the method cannot be changed from or to HEAD");
  }
  state.method = name;
}

/** @throws {Error} what nginx refuses. */
export function apply(
  state: RequestState,
  changes: readonly unknown[],
  effects: Effects,
): Ending | undefined {
  let at = 0;
  const next = (): unknown => changes[at++];
  const text = (): string => fromWire(next() as Wire);
  const optionalText = (): string | undefined => {
    const value = next() as Wire | null;
    return value === null ? undefined : fromWire(value);
  };
  while (at < changes.length) {
    const code = next() as number;
    switch (code) {
      case Change.requestField:
        state.setRequestField(text(), valuesOf(next() as Wire));
        break;
      case Change.method:
        setMethod(state, text());
        break;
      case Change.uri: {
        const uri = optionalText();
        const args = optionalText();
        state.setUri(uri, args, text());
        next(); // whether nginx would spell it otherwise: here it does not matter
        break;
      }
      case Change.requestBody:
        state.setBody(bytesOf(next() as Wire));
        break;
      case Change.responseField:
        state.setResponseField(text(), valuesOf(next() as Wire));
        break;
      case Change.appendField:
        state.appendResponseField(text(), [text()]);
        break;
      case Change.writeField: {
        const [what, name, values] = [next() as number, text(), valuesOf(next() as Wire[])];
        if (what === Change.requestField) state.setRequestField(name, values);
        else if (what === Change.responseField) state.writeResponseField(name, values);
        else state.appendResponseField(name, values);
        break;
      }
      case Change.status:
        state.status = next() as number;
        break;
      case Change.variable: {
        const name = text();
        const value = next() as Wire | null;
        state.setVariable(name, value === null ? undefined : fromWire(value));
        break;
      }
      case Change.ctx: {
        const key = next() as string;
        const value = carry(next());
        state.ctxKeys.add(key);
        if (value === null) Reflect.deleteProperty(state.ctx, key);
        else state.ctx[key] = value;
        break;
      }
      case Change.attachConsumer:
        state.attachConsumer(text());
        break;
      case Change.upstream:
        state.upstreamAddress = { host: text(), port: next() as number | null };
        break;
      case Change.exit:
        return { kind: "exit", status: next() as number, body: next() as Uint8Array | null };
      case Change.ask:
        return { kind: "ask", run: next() as number, asked: next() as unknown[][] };
      case Change.stream: {
        const [id, status] = [next() as number, next() as number];
        return { kind: "stream", id, status, chunk: bytesOf(next() as Wire) };
      }
      case Change.chunk:
        effects.chunk(bytesOf(next() as Wire));
        break;
      case Change.failed: {
        const [plugin, status, why] = [text(), next() as number, String(next())];
        if (status !== 0) return { kind: "failed", plugin, status, text: why };
        effects.passed(plugin, why);
        break;
      }
      case Change.refused:
        return { kind: "refused", plugin: text(), status: next() as number, text: String(next()) };
      case Change.keep:
        effects.keep();
        break;
      default:
        throw new Error(`protocol error: the change ${code}`);
    }
  }
  return undefined;
}
