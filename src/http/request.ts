/**
 * The request of one phase, from its head: made when a handler first looks at it, part by part.
 *
 * Thread: the environment's own. Invariant: what a handler changes it also reads so from then on,
 * and each change is in the run's list once, in the order it was made.
 */
import { createReadStream } from "node:fs";
import { Readable } from "node:stream";
import { parse as parseCookies } from "cookie";
import { RestyTsError } from "../sdk/errors.js";
import type { HttpRequestWithBody } from "../sdk/http.js";
import { Change, wireBytes } from "./changes.js";
import { malformed } from "./client-error.js";
import { Fields } from "./fields.js";
import { type Head, HeadFlag, HeadText } from "./head.js";
import { bytesOf } from "./text.js";
import { checkMethod, checkUri, decodePath } from "./validate.js";

const DEFAULT_MAX_BYTES = 1_048_576;
const EMPTY = new Uint8Array(0);
const FORM_TYPE = /^\s*(multipart\/form-data|application\/x-www-form-urlencoded)\s*(;|$)/i;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

/** What a request needs of the run that it is part of. */
export interface RequestOwner {
  readonly head: Head;
  /** Why this phase may not change the request, or undefined: it may. */
  readonly requestIsFixed: string | undefined;
  change(code: number, ...values: unknown[]): void;
  ask(kind: string, ...args: unknown[]): Promise<unknown[]>;
}

/** As the host got it: in memory, in nginx's file, or empty. */
type ReceivedBody = Uint8Array | { readonly path: string };

function utf8(bytes: string): string {
  return /^[\0-\x7f]*$/.test(bytes) ? bytes : Buffer.from(bytes, "latin1").toString("utf8");
}

/** nginx's $uri of a raw path, as far as it can be said without nginx's settings. */
function normalized(rawPath: string): string {
  const out: string[] = [];
  const segments = decodePath(rawPath)
    .replace(/\/{2,}/g, "/")
    .split("/");
  for (const [i, segment] of segments.entries()) {
    const last = i === segments.length - 1;
    if (segment === "..") out.pop();
    if (segment === "." || segment === "..") {
      if (last) out.push("");
    } else out.push(segment);
  }
  return out.join("/");
}

/** A decoded path as a URI has it. */
function escapePath(path: string): string {
  return path.replace(
    /[^A-Za-z0-9\-._~!$&'()*+,;=:@/]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}

export class RequestImpl implements HttpRequestWithBody {
  private readonly owner: RequestOwner;
  private fields: Fields | undefined = undefined;
  private changedMethod: string | undefined = undefined;
  private changedUri: string | undefined = undefined;
  private changedPath: string | undefined = undefined;
  private received: Promise<ReceivedBody> | undefined = undefined;
  private stream: ReadableStream<Uint8Array> | undefined = undefined;
  private urlMade: URL | undefined = undefined;
  private cookiesMade: Record<string, string> | undefined = undefined;

  constructor(owner: RequestOwner) {
    this.owner = owner;
  }

  get method(): string {
    return this.changedMethod ?? this.owner.head.text(HeadText.method)!;
  }

  set method(method: string) {
    this.#mayChange();
    this.changedMethod = checkMethod(method);
    this.owner.change(Change.method, method);
  }

  get uri(): string {
    return (this.changedUri ??= this.#currentUri());
  }

  set uri(uri: string) {
    this.#mayChange();
    const { path, rawPath, args } = checkUri(uri);
    this.changedUri = uri;
    this.changedPath = path;
    this.urlMade = undefined;
    // APISIX asks the upstream for what it is given: escapes, %2F say, are the plugin's.
    const sent = this.#has(HeadFlag.apisix) ? rawPath : path;
    this.owner.change(Change.uri, wireBytes(sent), args === null ? null : wireBytes(args));
  }

  get originalUri(): string {
    return this.owner.head.text(HeadText.requestUri)!;
  }

  get path(): string {
    if (this.changedPath !== undefined) return utf8(this.changedPath);
    const path = this.owner.head.text(HeadText.uri)!;
    return utf8(this.#has(HeadFlag.rewritten) ? normalized(path) : path);
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
    if (this.urlMade === undefined) {
      const host = this.headers.get("host") ?? "localhost";
      const base = `${this.scheme}://${host}`;
      // A Host that is none must not cost the plugin its request.
      const origin = canParse(base) ? base : `${this.scheme}://localhost`;
      this.urlMade = new URL(origin + this.uri);
    }
    return this.urlMade;
  }

  get query(): URLSearchParams {
    return this.url.searchParams;
  }

  get headers(): Fields {
    return (this.fields ??= new Fields(
      this.owner.head,
      "request",
      this.owner.requestIsFixed ??
        ((name, values) => {
          this.cookiesMade = undefined;
          this.owner.change(
            Change.requestField,
            name,
            Array.isArray(values) ? values.map(wireBytes) : values && wireBytes(values),
          );
        }),
    ));
  }

  get cookies(): Readonly<Record<string, string>> {
    return (this.cookiesMade ??= {
      ...parseCookies(this.headers.getAll("cookie").join("; ")),
    } as Record<string, string>);
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
    if (!FORM_TYPE.test(type)) {
      throw new RestyTsError(
        "unsupported_media_type",
        `the request's content-type is ${JSON.stringify(type)}: ` +
          "a form is multipart/form-data or application/x-www-form-urlencoded",
      );
    }
    const bytes = await this.#readable(maxBytes);
    try {
      return await new Response(bytes, { headers: { "content-type": type } }).formData();
    } catch (error) {
      throw malformed("the request's form", error);
    }
  }

  setBody(body: string | Uint8Array): void {
    this.#mayChange();
    const bytes = typeof body === "string" ? bytesOf(body) : body.slice();
    this.received = Promise.resolve(bytes);
    this.stream = undefined;
    this.owner.change(Change.requestBody, bytes);
  }

  toRequest(): Request {
    const hasBody = this.method !== "GET" && this.method !== "HEAD";
    return new Request(this.url, {
      method: this.method,
      headers: this.headers.pairs(),
      ...(hasBody ? { body: this.body, duplex: "half" } : {}),
    });
  }

  /** Undoes what is changed from now on, when called: the list of changes is the caller's. */
  checkpoint(): () => void {
    const { changedMethod, changedUri, changedPath, received, stream } = this;
    const flat = this.fields?.copy();
    return () => {
      Object.assign(this, { changedMethod, changedUri, changedPath, received, stream });
      this.fields?.restore(flat);
      this.urlMade = this.cookiesMade = undefined;
    };
  }

  #has(flag: number): boolean {
    return (this.owner.head.flags & flag) !== 0;
  }

  #mayChange(): void {
    if (this.owner.requestIsFixed !== undefined) throw new TypeError(this.owner.requestIsFixed);
  }

  /** The client's own spelling while it still says what nginx has. */
  #currentUri(): string {
    const { head } = this.owner;
    const original = head.text(HeadText.requestUri)!;
    const uri = head.text(HeadText.uri)!;
    const args = head.text(HeadText.args) ?? "";
    if (this.#has(HeadFlag.rewritten)) return args === "" ? uri : `${uri}?${args}`;
    const target = original.startsWith("/")
      ? original
      : original.replace(/^[a-z][a-z0-9+.-]*:\/\/[^/?]*/i, "");
    const raw = target.split(/[?#]/, 1)[0]!;
    const unchanged = raw === uri || normalized(raw) === uri;
    // A "?" with nothing behind it is nothing to nginx.
    if (unchanged && args === "" && target === `${raw}?`) return target;
    const path = unchanged ? raw : escapePath(uri);
    return args === "" ? path : `${path}?${args}`;
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

function canParse(url: string): boolean {
  try {
    new URL(url);
    return true;
  } catch {
    return false;
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
