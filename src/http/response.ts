/** The response of one phase, and what becomes of a Fetch Response that a handler returned. */
import { RestyTsError } from "../sdk/errors.js";
import type { HttpResponse } from "../sdk/http.js";
import { checkCoding } from "./body-rules.js";
import { Change, changeField } from "./changes.js";
import { isDecoded, mayBeEncoded } from "./codings.js";
import { type FieldName, hopByHop } from "./field-names.js";
import { Fields, type FieldsOwner } from "./fields.js";
import type { Head } from "./head.js";
import { checkBodyAllowed, checkStatus } from "./validate.js";

/** What a response needs of the draft that it is part of. */
export interface ResponseOwner {
  readonly head: Head;
  /** Why this phase may not change the response, or undefined: it may. */
  readonly responseIsFixed: string | undefined;
  /** Whether a handler gets the response's body. */
  readonly filtersBody: boolean;
  /** @throws {TypeError} when it is fixed, or the handler has ended. */
  checkOpen(fixed: string | undefined): void;
  change(...change: unknown[]): void;
}

export class ResponseImpl implements HttpResponse, FieldsOwner {
  private readonly owner: ResponseOwner;
  private fields: Fields | undefined = undefined;
  private changedStatus: number | undefined = undefined;

  /** @param before what it begins with: the head, unless handlers before have changed it. */
  constructor(owner: ResponseOwner, before: ResponseImpl | undefined) {
    this.owner = owner;
    if (before === undefined) return;
    this.changedStatus = before.changedStatus;
    this.fields = before.fields?.copyFor(this);
  }

  get status(): number {
    return this.changedStatus ?? this.owner.head.status;
  }

  set status(status: number) {
    this.checkChange();
    this.changedStatus = checkStatus(status);
    this.owner.change(Change.status, status);
  }

  get headers(): Fields {
    return (this.fields ??= new Fields(this, "response"));
  }

  get head(): Head {
    return this.owner.head;
  }

  checkChange(): void {
    this.owner.checkOpen(this.owner.responseIsFixed);
  }

  fieldChanged(
    field: FieldName,
    name: string,
    values: string | string[] | null,
    appended?: string,
  ): void {
    const { lower } = field;
    if (lower === "content-length" && values !== null) {
      throw new RestyTsError(
        "bad_response",
        "content-length is nginx's: it counts the body itself (a filter may delete it)",
      );
    }
    if (lower === "content-encoding" && !this.owner.filtersBody) {
      checkCoding(this.owner.head, Array.isArray(values) ? values.join() : values);
    }
    const code = appended === undefined ? Change.responseField : Change.appendField;
    changeField(this.owner, code, field, name, appended ?? values);
  }
}

const EMPTY = new Uint8Array(0);

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

function checkDeclared(declared: string | null, length: number): void {
  if (declared === null || Number(declared) === length) return;
  throw new RestyTsError(
    "bad_response",
    `content-length says ${declared}, and the body has ${length} bytes: leave it to nginx`,
  );
}

type Begun = Pick<AnswerParts, "body" | "rest">;

/**
 * Reads what is there of a body: all of one that was given as a whole.
 *
 * @param mustBegin whether to wait for the first piece.
 */
async function begin(stream: ReadableStream<Uint8Array>, mustBegin: boolean): Promise<Begun> {
  const reader = stream.getReader();
  // A body that was given as a whole is one chunk and the end.
  let body: Uint8Array | null = null;
  for (let i = 0; i < 2; i++) {
    const next = reader.read();
    next.catch(() => undefined); // whoever awaits it is told
    const result = await (mustBegin && i === 0 ? next : Promise.race([next, turn()]));
    if (result === undefined) return { body, rest: { reader, next } };
    if (result.done) return { body: body ?? EMPTY, rest: undefined };
    if (body !== null) return { body, rest: { reader, next: Promise.resolve(result) } };
    body = chunkBytes(result.value);
  }
  return { body, rest: { reader, next: reader.read() } };
}

/**
 * Takes a Response apart: a body that is there already comes as a whole, any other as a rest. The
 * fields are without hop-by-hop ones, and without a Content-Encoding that is not the body's.
 *
 * @throws {RestyTsError} "bad_response"; {TypeError} when the body has been read already.
 */
export async function takeApart(response: Response): Promise<AnswerParts> {
  const { headers } = response;
  const status = checkStatus(response.status);
  if (response.bodyUsed) throw new TypeError("the Response's body has been read already");
  const coding = headers.get("content-encoding");
  let isEncoded = coding !== null && !isDecoded(response, coding);
  const { body, rest }: Begun =
    response.body === null
      ? { body: null, rest: undefined }
      : await begin(response.body as ReadableStream<Uint8Array>, isEncoded);
  if (isEncoded && body !== null) isEncoded = mayBeEncoded(coding!, body, rest === undefined);
  if (body !== null && rest === undefined) {
    checkBodyAllowed(status, body.length);
    const isAsDeclared = response.url === "" && (coding === null || isEncoded);
    if (isAsDeclared) checkDeclared(headers.get("content-length"), body.length);
  }
  const isOfConnection = hopByHop(headers.get("connection"));
  const fields: [string, string][] = [];
  // Fetch gives each Set-Cookie on its own, and all else joined.
  for (const [name, value] of headers) {
    if (name === "content-length" || isOfConnection(name)) continue;
    if (name !== "content-encoding" || isEncoded) fields.push([name, value]);
  }
  return { status, fields, body, rest };
}
