/** The response of one phase, and what becomes of a Fetch Response that a handler returned. */
import { RestyTsError } from "../sdk/errors.js";
import type { HttpResponse } from "../sdk/http.js";
import { Change, wireBytes } from "./changes.js";
import { Fields } from "./fields.js";
import type { FlatFields, Head } from "./head.js";
import { checkBodyAllowed, checkFieldChange, checkStatus } from "./validate.js";

/** What a response needs of the run that it is part of. */
export interface ResponseOwner {
  readonly head: Head;
  /** Why this phase may not change the response, or undefined: it may. */
  readonly responseIsFixed: string | undefined;
  change(code: number, ...values: unknown[]): void;
}

export class ResponseImpl implements HttpResponse {
  private readonly owner: ResponseOwner;
  private fields: Fields | undefined = undefined;
  private changedStatus: number | undefined = undefined;

  constructor(owner: ResponseOwner) {
    this.owner = owner;
  }

  get status(): number {
    return this.changedStatus ?? this.owner.head.status;
  }

  set status(status: number) {
    if (this.owner.responseIsFixed !== undefined) throw new TypeError(this.owner.responseIsFixed);
    this.changedStatus = checkStatus(status);
    this.owner.change(Change.status, status);
  }

  get headers(): Fields {
    return (this.fields ??= new Fields(
      this.owner.head.responseFields(),
      this.owner.responseIsFixed ??
        ((name, values) => {
          if (name.toLowerCase() === "content-length" && values !== null) {
            throw new RestyTsError(
              "bad_response",
              "content-length is nginx's: it counts the body itself (a filter may delete it)",
            );
          }
          this.owner.change(
            Change.responseField,
            name,
            Array.isArray(values) ? values.map(wireBytes) : values && wireBytes(values),
          );
        }),
    ));
  }

  /** Undoes what is changed from now on, when called: the list of changes is the caller's. */
  checkpoint(): () => void {
    const { changedStatus } = this;
    const flat: FlatFields | undefined = this.fields?.copy();
    return () => {
      this.changedStatus = changedStatus;
      if (flat === undefined) this.fields = undefined;
      else this.fields!.restore(flat);
    };
  }
}

/** A body that is still being made. */
export interface BodyRest {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  /** A read that is under way. */
  readonly next: ReturnType<ReadableStreamDefaultReader<Uint8Array>["read"]>;
}

export interface AnswerParts {
  readonly status: number;
  readonly fields: [string, string][];
  /** All of it, or what is there of it when there is a rest. */
  readonly body: Uint8Array | null;
  readonly rest: BodyRest | undefined;
}

export function isResponse(value: unknown): value is Response {
  return (
    typeof value === "object" &&
    value !== null &&
    (value instanceof Response ||
      // Of another undici than Node's own.
      (Object.prototype.toString.call(value) === "[object Response]" && "headers" in value))
  );
}

/** A chunk of a Response's stream as bytes. @throws {TypeError} */
export function chunkBytes(value: unknown): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw new TypeError(
    `the Response's stream gave a ${value === null ? "null" : typeof value}: its chunks are Uint8Array ` +
      "(new TextEncoder().encode(text), or pipeThrough(new TextEncoderStream()))",
  );
}

/** Ends when what has settled by itself has: timers and I/O are not waited for. */
function turn(): Promise<undefined> {
  return new Promise((resolve) => setImmediate(resolve, undefined));
}

/**
 * Takes a Response apart: a body that is there already comes as a whole, any other as a rest.
 *
 * @throws {RestyTsError} "bad_response"; {TypeError} when the body has been read already.
 */
export async function takeApart(response: Response): Promise<AnswerParts> {
  const status = checkStatus(response.status);
  const fields: [string, string][] = [];
  let declared: string | undefined;
  for (const [name, value] of response.headers) {
    // Fetch gives each Set-Cookie on its own, and all else joined.
    if (name === "content-length") {
      declared = value;
      continue;
    }
    checkFieldChange(name);
    fields.push([name, value]);
  }
  if (response.bodyUsed) throw new TypeError("the Response's body has been read already");
  if (response.body === null) return { status, fields, body: null, rest: undefined };

  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const parts: Uint8Array[] = [];
  let length = 0;
  for (;;) {
    const next = reader.read();
    next.catch(() => undefined); // whoever awaits it is told
    const first = await Promise.race([next, turn()]);
    if (first === undefined || (length > 65_536 && !first.done)) {
      if (first?.value !== undefined) parts.push(chunkBytes(first.value));
      const pending = first === undefined ? next : reader.read();
      pending.catch(() => undefined);
      const body = parts.length === 0 ? null : Buffer.concat(parts);
      return { status, fields, body, rest: { reader, next: pending } };
    }
    if (first.done) break;
    parts.push(chunkBytes(first.value));
    length += parts.at(-1)!.length;
  }
  checkBodyAllowed(status, length);
  if (declared !== undefined && Number(declared) !== length) {
    throw new RestyTsError(
      "bad_response",
      `content-length says ${declared}, and the body has ${length} bytes: leave it to nginx`,
    );
  }
  return { status, fields, body: Buffer.concat(parts, length), rest: undefined };
}
