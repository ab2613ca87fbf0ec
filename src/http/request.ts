/**
 * The request of one phase, from its head: made when a handler first looks at it, part by part.
 *
 * Thread: the environment's own. Invariant: what a handler changes it also reads so from then on,
 * and each change is in its draft's list once, in the order it was made.
 */
import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import { parse as parseCookies } from "cookie";
import { RestyTsError } from "../sdk/errors.js";
import type { HttpRequestWithBody } from "../sdk/http.js";
import { Change, changeField, wireBytes } from "./changes.js";
import { malformed } from "./client-error.js";
import { type FieldName, hopByHop } from "./field-names.js";
import { Fields, fieldsOf, type FieldsOwner } from "./fields.js";
import { isForm, readForm } from "./form.js";
import { type Head, HeadFlag, HeadText } from "./head.js";
import { hostOf, originOf } from "./origin.js";
import { Query, queryText, RequestUrl, URL_IS_FIXED } from "./query.js";
import { Target, textOf, utf8 } from "./target.js";
import { bytesOf } from "./text.js";
import { checkMethod, isToken } from "./validate.js";

const DEFAULT_MAX_BYTES = 1_048_576;
const EMPTY = new Uint8Array(0);
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** What a request needs of the draft that it is part of. */
export interface RequestOwner {
  readonly head: Head;
  /** Why this phase may not change the request, or undefined: it may. */
  readonly requestIsFixed: string | undefined;
  /** ctx.signal. */
  readonly signal: AbortSignal;
  /** @throws {TypeError} when it is fixed, or the handler has ended. */
  checkOpen(fixed: string | undefined): void;
  change(...change: unknown[]): void;
  ask(kind: string, ...args: unknown[]): Promise<unknown[]>;
}

/** As the host got it: in memory, in nginx's file, or empty. */
type ReceivedBody = Uint8Array | { readonly path: string };

export class RequestImpl implements HttpRequestWithBody, FieldsOwner {
  private readonly owner: RequestOwner;
  private fields: Fields | undefined = undefined;
  private changedMethod: string | undefined = undefined;
  private targetMade: Target | undefined = undefined;
  private received: Promise<ReceivedBody> | undefined = undefined;
  /** Of a body that was set. */
  private bodyLength: number | undefined = undefined;
  private stream: ReadableStream<Uint8Array> | undefined = undefined;
  private urlMade: RequestUrl | undefined = undefined;
  /** The Host field that it was made with. */
  private urlField: string | null = null;
  private queryMade: Query | undefined = undefined;
  private cookiesMade: Record<string, string> | undefined = undefined;

  /** @param before what it begins with: the head, unless handlers before have changed it. */
  constructor(owner: RequestOwner, before: RequestImpl | undefined) {
    this.owner = owner;
    if (before === undefined) return;
    const { changedMethod, targetMade, received, bodyLength, fields } = before;
    Object.assign(this, { changedMethod, targetMade, received, bodyLength });
    this.fields = fields?.copyFor(this);
  }

  get head(): Head {
    return this.owner.head;
  }

  checkChange(): void {
    this.owner.checkOpen(this.owner.requestIsFixed);
  }

  fieldChanged(
    field: FieldName,
    name: string,
    values: string | string[] | null,
    appended?: string,
  ): void {
    this.cookiesMade = undefined;
    const code = appended === undefined ? Change.requestField : Change.appendRequestField;
    changeField(this.owner, code, field, name, appended ?? values);
  }

  get method(): string {
    return this.changedMethod ?? this.owner.head.text(HeadText.method)!;
  }

  set method(method: string) {
    this.checkChange();
    if (checkMethod(method, this.method) === this.method) return;
    this.changedMethod = method;
    this.owner.change(Change.method, method);
  }

  get uri(): string {
    return this.#target().text;
  }

  set uri(uri: string) {
    this.checkChange();
    this.#retarget(this.#target().withUri(uri));
  }

  get originalUri(): string {
    const { head } = this.owner;
    return textOf(head.text(HeadText.originalTarget) ?? head.text(HeadText.target)!);
  }

  get path(): string {
    const isAsCame = this.targetMade === undefined && !this.#has(HeadFlag.rewritten);
    return isAsCame ? utf8(this.owner.head.text(HeadText.uri)!) : this.#target().pathText;
  }

  set path(path: string) {
    this.checkChange();
    this.#retarget(this.#target().withPath(path));
  }

  get scheme(): "http" | "https" {
    return this.#has(HeadFlag.https) ? "https" : "http";
  }

  get httpVersion(): string {
    return this.owner.head.httpVersion;
  }

  get remoteAddress(): string {
    return this.owner.head.text(HeadText.remoteAddress)!;
  }

  get url(): URL {
    const field = this.headers.get("host");
    if (this.urlMade === undefined || this.urlField !== field) {
      this.urlMade = new RequestUrl(this.#origin(field), this.#target());
      this.urlField = field;
    }
    return this.urlMade;
  }

  // Without one, an assignment in sloppy mode does nothing and says nothing.
  set url(_url: URL) {
    throw new TypeError(URL_IS_FIXED);
  }

  get query(): URLSearchParams {
    const { head } = this.owner;
    const target = this.targetMade;
    return (this.queryMade ??= new Query(
      (target === undefined ? head.text(HeadText.args) : target.args) ?? "",
      () => {
        this.checkChange();
      },
      (args) => {
        this.#retarget(this.#target().withArgs(args));
      },
    ));
  }

  set query(query: unknown) {
    this.checkChange();
    const target = this.#target();
    this.#retarget(
      query instanceof Query ? target.withArgs(query.raw) : target.withQuery(queryText(query)),
    );
  }

  get headers(): Fields {
    return (this.fields ??= new Fields(this, "request"));
  }

  get cookies(): Readonly<Record<string, string>> {
    // parseCookies' has no prototype.
    return (this.cookiesMade ??= parseCookies(this.headers.get("cookie") ?? "") as Record<
      string,
      string
    >);
  }

  get body(): ReadableStream<Uint8Array> {
    return (this.stream ??= bodyStream(() => this.#receive()));
  }

  async bytes(maxBytes = DEFAULT_MAX_BYTES): Promise<Uint8Array> {
    const body = await this.#receive();
    if (body instanceof Uint8Array) {
      if (body.length > maxBytes) tooLarge(body.length, maxBytes);
      return body;
    }
    const parts: Uint8Array[] = [];
    let length = 0;
    for await (const part of createReadStream(body.path) as AsyncIterable<Uint8Array>) {
      length += part.length;
      if (length > maxBytes) tooLarge(undefined, maxBytes);
      parts.push(part);
    }
    const whole = new Uint8Array(Buffer.concat(parts, length));
    this.received = Promise.resolve(whole);
    return whole;
  }

  async text(maxBytes?: number): Promise<string> {
    const bytes = await this.#readable(maxBytes);
    try {
      return strictUtf8.decode(bytes);
    } catch (error) {
      throw malformed("the request's body, as UTF-8 text,", error);
    }
  }

  async json<T = unknown>(maxBytes?: number): Promise<T> {
    const text = await this.text(maxBytes);
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw malformed("the request's JSON", error);
    }
  }

  async formData(maxBytes?: number): Promise<FormData> {
    const type = this.headers.get("content-type") ?? "";
    if (!isForm(type)) {
      throw new RestyTsError(
        "unsupported_media_type",
        `the request's content-type is ${JSON.stringify(type)}: ` +
          "a form is multipart/form-data or application/x-www-form-urlencoded",
      );
    }
    return readForm(await this.#readable(maxBytes), type);
  }

  setBody(body: string | Uint8Array): void {
    this.checkChange();
    const bytes = typeof body === "string" ? bytesOf(body) : body.slice();
    this.received = Promise.resolve(bytes);
    this.bodyLength = bytes.length;
    this.stream = undefined;
    this.owner.change(Change.requestBody, bytes);
  }

  toRequest(): Request {
    const { method, headers, httpVersion } = this;
    const isOfConnection = hopByHop(headers.get("connection"));
    const length = this.bodyLength?.toString() ?? headers.get("content-length");
    // Without a length only HTTP/1 says whether there is a body.
    const mayHaveBody =
      length === null
        ? headers.has("transfer-encoding") || Number(httpVersion) >= 2
        : Number(length) > 0;
    const hasBody = mayHaveBody && method !== "GET" && method !== "HEAD";
    const fields = headers.pairs().filter(([name]) => {
      if (!isToken(name)) return false; // Fetch takes none of those
      const lower = name.toLowerCase();
      return lower !== "content-length" && lower !== "expect" && !isOfConnection(lower);
    });
    if (length !== null && hasBody) fields.push(["content-length", length]);
    return new Request(this.url, {
      method,
      headers: fields,
      signal: this.owner.signal,
      ...(hasBody ? { body: bodyStream(() => this.#receive()), duplex: "half" } : {}),
    });
  }

  #has(flag: number): boolean {
    return (this.owner.head.flags & flag) !== 0;
  }

  /** $host is what nginx makes of the Host field, also of one that a handler sets. */
  #origin(field: string | null): string {
    const { head } = this.owner;
    const isSet = field !== fieldsOf(head, "request").get("host");
    return originOf(
      this.scheme,
      isSet ? (hostOf(field ?? "") ?? "") : head.text(HeadText.host)!,
      field,
    );
  }

  #target(): Target {
    return (this.targetMade ??= Target.of(this.owner.head));
  }

  #retarget(target: Target): void {
    const before = this.#target();
    if (target === before) return;
    this.targetMade = target;
    this.urlMade = undefined;
    this.queryMade?.follow(target.args ?? "");
    const { raw, args, path } = target;
    this.owner.change(
      Change.uri,
      path === before.path ? null : wireBytes(path),
      args === null ? null : wireBytes(args),
      wireBytes(raw),
      // APISIX asks the upstream for what it is given.
      raw !== target.escaped && !this.#has(HeadFlag.apisix),
    );
  }

  /** The body's bytes, unless they are compressed. */
  #readable(maxBytes: number | undefined): Promise<Uint8Array> {
    const coding = this.headers.get("content-encoding") ?? "";
    if (/^(identity)?$/i.test(coding)) return this.bytes(maxBytes);
    const text = `the request's content-encoding is ${JSON.stringify(coding)}: read bytes() or body, and decode it`;
    return Promise.reject(new RestyTsError("unsupported_media_type", text));
  }

  #receive(): Promise<ReceivedBody> {
    return (this.received ??= this.owner
      .ask("body")
      .then(([bytes, path]) =>
        typeof path === "string" ? { path } : ((bytes as Uint8Array | null) ?? EMPTY),
      ));
  }
}

function tooLarge(bytes: number | undefined, maxBytes: number): never {
  const what = bytes === undefined ? "more" : `${bytes} bytes`;
  throw new RestyTsError(
    "too_large",
    `the request's body has ${what}, and at most ${maxBytes} were asked for: ` +
      "read ctx.request.body, or pass a larger maxBytes",
  );
}

/** A stream that begins with the first read. */
function bodyStream(receive: () => Promise<ReceivedBody>): ReadableStream<Uint8Array> {
  let source: ReadableStreamDefaultReader<Uint8Array> | undefined;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        if (source === undefined) {
          const body = await receive();
          if (body instanceof Uint8Array) {
            if (body.length > 0) controller.enqueue(body.slice());
            controller.close();
            return;
          }
          const file = createReadStream(body.path, { highWaterMark: 65_536 });
          source = (Readable.toWeb(file) as ReadableStream<Uint8Array>).getReader();
        }
        const { done, value } = await source.read();
        if (done) controller.close();
        else controller.enqueue(new Uint8Array(value.buffer, value.byteOffset, value.length));
      },
      async cancel(reason) {
        await source?.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
