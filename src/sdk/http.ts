/**
 * What a plugin sees of a request: the contexts of the phases and what hangs on them. Interfaces
 * only: src/http implements them, for the host and for resty-ts/testing alike.
 */
import type { ApisixRequest } from "./apisix.js";
import type { Log } from "./context.js";

/** What travels between Lua and TypeScript: docs/wire-format.md. */
export type Carried =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | readonly Carried[]
  | { readonly [key: string]: Carried | undefined };

/**
 * Header fields to read, in the order they came, repeated ones kept, with the reading methods of
 * Fetch's Headers. Names compare without regard to case. Values are byte strings, as in Fetch: each
 * character is one byte, U+0000 to U+00FF.
 */
export interface ReadonlyHeaderFields extends Iterable<[name: string, value: string]> {
  /**
   * All values of the name joined by ", ", as Fetch does it, those of Cookie by "; " (RFC 9113,
   * 8.2.3); null when there is none.
   */
  get(name: string): string | null;
  /** Each value of the name on its own. */
  getAll(name: string): string[];
  /** Each Set-Cookie on its own: what joins them cannot be taken apart. */
  getSetCookie(): string[];
  /** Whether there is a field of the name, with an empty value, too. */
  has(name: string): boolean;
  /** Each field's name, spelled as it came; a repeated one as often as it is there. */
  keys(): IterableIterator<string>;
  /** Each field's value. */
  values(): IterableIterator<string>;
  /** Each field: name and value. */
  entries(): IterableIterator<[name: string, value: string]>;
  /** Calls `visit` for each field. */
  forEach(
    visit: (value: string, name: string, fields: ReadonlyHeaderFields) => void,
    thisArg?: unknown,
  ): void;
  /** How many fields there are. */
  readonly size: number;
}

/**
 * Header fields that may be changed. What a field has after a change is what is sent: a field that
 * nginx has once (docs/plugins.md, "Fields") is one line, whose values are joined.
 *
 * @throws {RestyTsError} "bad_response" from everything that changes fields: a name that is not a token
 * (RFC 9110, 5.1), a value with CR, LF, NUL or a character above U+00FF, or a hop-by-hop field
 * (RFC 9110, 7.6.1), which belongs to nginx, as do Content-Length and Expect of a request.
 */
export interface HeaderFields extends ReadonlyHeaderFields {
  /**
   * Replaces all fields of the name; an array makes one field of each item. Spaces and tabs around a
   * value are not part of it.
   */
  set(name: string, value: string | number | readonly (string | number)[]): void;
  /** Adds a value and keeps those that are there. */
  append(name: string, value: string | number): void;
  /** Removes all fields of the name, also one that is not known here, as nginx adds it later. */
  delete(name: string): void;
}

/**
 * The request as it stands now: what Lua or an earlier plugin changed is changed here, too. It may be
 * changed in rewrite, access, beforeProxy and content (there for subrequests and later Lua code); in
 * other phases that throws a TypeError.
 */
export interface HttpRequest {
  /**
   * Settable: to those that nginx knows (ngx.HTTP_*), and not from or to HEAD.
   *
   * @throws {RestyTsError} "bad_response" from setting any other.
   */
  method: string;
  /**
   * Path and query as text: as the client sent them, escapes and all, until they are changed; in
   * APISIX as the upstream will get them. A byte that is no UTF-8 is escaped.
   * Settable, "/path?query" or "/path", which drops the query: the upstream gets what is set, %2F as
   * %2F, escaped where it is not ASCII; set to what it was, it is as it was. Where proxy_pass has a URI of its own
   * nginx sends the decoded path, escaped again.
   *
   * @throws {RestyTsError} "bad_response" from setting what does not begin with "/", leads above it, or
   * has a space, a control character, "#", %00 or a "%" that begins no escape (RFC 9112, 3.2.1).
   */
  uri: string;
  /** What the client sent in the request line ($request_uri), whatever was changed since. */
  readonly originalUri: string;
  /**
   * The path alone as nginx chooses locations by it ($uri): decoded, "//", "." and ".." resolved. To
   * guard a path compare this one.
   * Settable, decoded, which keeps the query; what a path may not have is escaped.
   *
   * @throws {RestyTsError} "bad_response" from setting what does not begin with "/", leads above it or
   * has a NUL.
   */
  path: string;
  /**
   * The whole URL, made when first read; it cannot be changed (TypeError). The path is `path`, each
   * character in its one spelling, but for %2F, which stays. The host is nginx's ($host), with the port
   * of the Host field; "localhost" for one that no URL can have.
   */
  readonly url: URL;
  /**
   * The query's arguments, made when first read. Changing them (set, append, delete, sort) changes
   * `uri`; arguments that are not named keep their bytes.
   */
  get query(): URLSearchParams;
  /**
   * Replaces the whole query; "" is none. Text is sent as it is, anything else as a form.
   *
   * @throws {RestyTsError} "bad_response" from a text with a space, control character or "#".
   */
  set query(query: string | URLSearchParams | Readonly<Record<string, string>>);
  /** "http" or "https". */
  readonly scheme: "http" | "https";
  /** "1.0", "1.1", "2.0" or "3.0". */
  readonly httpVersion: string;
  /** The client's address as nginx has it ($remote_addr): with the realip module, the real one. */
  readonly remoteAddress: string;
  /** Of the request; what is changed, the upstream and later Lua code see. */
  readonly headers: HeaderFields;
  /**
   * Of the Cookie field, decoded; the first of a name wins. Made when first read. It has no
   * prototype: what the client has not sent is undefined, whatever its name.
   */
  readonly cookies: Readonly<Record<string, string>>;
}

/** The request where it cannot be changed any more: headerFilter, bodyFilter, delayedBodyFilter, log. */
export type ReadonlyHttpRequest = Readonly<Omit<HttpRequest, "headers">> & {
  /** Of the request. */
  readonly headers: ReadonlyHeaderFields;
};

/**
 * The request where its body can be read (rewrite, access, beforeProxy, content). nginx receives the whole body
 * first: in memory up to client_body_buffer_size, else into a file. The upstream still gets it.
 *
 * What is wrong with the body is the client's mistake: an error "too_large", "bad_request" or
 * "unsupported_media_type" that no handler catches is answered 413, 400 or 415, whatever the policies,
 * and is in the log at level info.
 */
export interface HttpRequestWithBody extends HttpRequest {
  /**
   * The body; empty when there is none. Read once, kept for further calls.
   *
   * @param maxBytes most bytes to take into memory, 1 MiB by default.
   * @throws {RestyTsError} "too_large" above that: read `body` instead.
   */
  bytes(maxBytes?: number): Promise<Uint8Array>;
  /**
   * The body as UTF-8 text.
   *
   * @throws {RestyTsError} as bytes() does; "bad_request" when it is not UTF-8, "unsupported_media_type"
   * when it has a Content-Encoding.
   */
  text(maxBytes?: number): Promise<string>;
  /** The body as JSON. @throws {RestyTsError} as text() does; "bad_request" when it is malformed. */
  json<T = unknown>(maxBytes?: number): Promise<T>;
  /**
   * The body as a form: multipart/form-data (RFC 7578, with filename* of RFC 8187) or
   * application/x-www-form-urlencoded; of 10,000 parts at most.
   *
   * @throws {RestyTsError} as text() does; "bad_request" when it is malformed, "unsupported_media_type"
   * when the Content-Type is another.
   */
  formData(maxBytes?: number): Promise<FormData>;
  /**
   * The body as a stream of any size, which is never in memory as a whole. To be read before the
   * handler returns or in waitUntil, as nginx's file goes with the request.
   */
  readonly body: ReadableStream<Uint8Array>;
  /** Replaces the body that the upstream gets. Text goes as UTF-8. */
  setBody(body: string | Uint8Array): void;
  /**
   * A Fetch Request with the same method, URL, fields, body and `ctx.signal`, for fetch and for frameworks.
   * Without what belongs to the client's connection (hop-by-hop fields, Expect), and without the body
   * of GET, which Fetch does not have. Costly: made when called.
   *
   * @throws {TypeError} for what Fetch does not take, the method TRACE say.
   */
  toRequest(): Request;
}

/** What will be, or is, sent to the client. */
export interface HttpResponse {
  /**
   * In headerFilter and all later phases what the upstream answered; 0 before it is known. May be set
   * in headerFilter, and before it for what `exit` or an error page does not override.
   *
   * @throws {RestyTsError} "bad_response" from setting what is no integer from 200 to 599.
   * {TypeError} from setting it in phases after headerFilter.
   */
  status: number;
  /**
   * In headerFilter the response's fields; before it those that plugins and Lua have set. What is set
   * before it is in place of the upstream's fields of the name, what is appended is beside them. They
   * stay when the handler fails and its failure is answered.
   *
   * @throws {RestyTsError} as HeaderFields does, and from setting Content-Length, which is nginx's
   * (deleting is allowed). {TypeError} from changing them in phases after headerFilter.
   */
  readonly headers: HeaderFields;
}

/** The response where it cannot be changed any more: bodyFilter, delayedBodyFilter, log. */
export type ReadonlyHttpResponse = Readonly<Omit<HttpResponse, "headers">> & {
  /** Of the response. */
  readonly headers: ReadonlyHeaderFields;
};

/**
 * A shared dictionary (lua_shared_dict), seen by all workers. Calls made together are one more
 * crossing together.
 *
 * @throws {RestyTsError} "handler_failed" from every call when there is no such dictionary, and with
 * the words of ngx.shared (lua-nginx-module): "no memory", "not found", "value not a list" and so on.
 */
export interface SharedDict {
  /** The value; null when the key is not there or has expired. What is no UTF-8 is a byte string. */
  get(key: string): Promise<string | number | boolean | null>;
  /** Sets, whatever is there. @param ttlSeconds 0 or left out: for ever. */
  set(key: string, value: string | number | boolean, ttlSeconds?: number): Promise<void>;
  /** Sets only what is not there. @returns whether it did. */
  add(key: string, value: string | number | boolean, ttlSeconds?: number): Promise<boolean>;
  /**
   * Adds to a number, atomically for all workers.
   *
   * @param initial what an absent key counts as; without it an absent key is an error.
   * @param initialTtlSeconds the time to live of a key that this call makes.
   * @returns the new value.
   */
  incr(key: string, by: number, initial?: number, initialTtlSeconds?: number): Promise<number>;
  /** Deletes the key; not an error when it is not there. */
  delete(key: string): Promise<void>;
  /** Seconds left to live; 0: for ever; null: not there. */
  ttl(key: string): Promise<number | null>;
  /** Adds at the list's beginning, and makes the list. @returns its length then. */
  lpush(key: string, value: string | number): Promise<number>;
  /** Adds at the list's end, and makes the list. @returns its length then. */
  rpush(key: string, value: string | number): Promise<number>;
  /** Takes the first of the list; null: it is empty or not there. */
  lpop(key: string): Promise<string | number | null>;
  /** Takes the last of the list; null: it is empty or not there. */
  rpop(key: string): Promise<string | number | null>;
  /** The list's length; 0: it is not there. */
  llen(key: string): Promise<number>;
}

/** What a subrequest asks with. */
export interface SubrequestOptions {
  /** "GET" when left out. */
  method?: string;
  /** The query, without "?". */
  args?: string;
  /** Text goes as UTF-8. Without one the location sees no body: the client's is not sent. */
  body?: string | Uint8Array;
}

/** What a subrequest brought. */
export interface SubrequestResult {
  /** As the location answered; a status of 400 or above is no error here. */
  readonly status: number;
  /** In the order of their names; repeated ones, Set-Cookie say, kept. */
  readonly headers: ReadonlyHeaderFields;
  /** The whole body; of length 0 when there is none. */
  readonly body: Uint8Array;
}

/** What `exit` returns, for `return ctx.exit(…)`. */
export interface Exit {
  /** Marks it. */
  readonly exited: true;
}

/** In all phases. */
export interface BaseContext {
  /** The request as it stands now. */
  readonly request: ReadonlyHttpRequest;
  /** The response, as far as it is known in this phase. */
  readonly response: ReadonlyHttpResponse;
  /**
   * State that lives with the request across phases, plugins, and Lua, which sees it as ngx.ctx.
   * Has the keys that TypeScript set earlier and those named in the plugin's `needs.ctx`. Set, change
   * or delete keys; only these go back. What cannot be carried stays behind, and is in the error log.
   */
  readonly ctx: Record<string, unknown>;
  /**
   * State that lives with the request in Node alone, for what cannot be carried: spans, decoders.
   * All plugins of the request share it. Gone with the request.
   */
  readonly local: Map<unknown, unknown>;
  /**
   * nginx variables named in `needs.vars` of the chain's plugins; undefined when they have no value.
   * Text: bytes that are no UTF-8 are U+FFFD.
   */
  readonly vars: Readonly<Record<string, string | undefined>>;
  /** Writes to nginx's error log, with the plugin's name. */
  readonly log: Log;
  /**
   * A shared dictionary, at any time: also in waitUntil, while a stream goes on, and in log handlers.
   * A filter cannot wait for it, but may hand it to waitUntil. One that is not there is an error of
   * each call, not of this one.
   *
   * @param name as in lua_shared_dict.
   */
  shared(name: string): SharedDict;
  /**
   * Lets work go on after the handler has returned. What it changes of the request then throws. A
   * rejection is in the error log; a worker that shuts down waits for it, 2 s at most.
   */
  waitUntil(work: Promise<unknown>): void;
}

/** Reads and writes nginx variables. */
export interface Variables {
  /**
   * A variable, without "$"; undefined when it has no value. One that needs.vars names costs nothing;
   * any other is asked of nginx: one more crossing.
   *
   * @throws {TypeError} when it is no variable's name. {RestyTsError} "handler_failed" as nginx says.
   */
  get(name: string): Promise<string | undefined>;
  /**
   * Sets a variable that the configuration defines (`set $name "";`), null clears it. Takes effect
   * when the handler returns, or before its next question to nginx; one that is not defined, or may
   * not be set, fails the handler then.
   *
   * @throws {TypeError} when it is no variable's name.
   */
  set(name: string, value: string | number | null): void;
}

/** rewrite, access, beforeProxy, content: the phases that can wait. */
export interface RequestContext extends BaseContext {
  /** The request as it stands now, with its body. */
  readonly request: HttpRequestWithBody;
  /** The response that is to come. */
  readonly response: HttpResponse;
  /** Aborted when the deadline passes or the client leaves; reasons as in CallContext. */
  readonly signal: AbortSignal;
  /** What Apache APISIX has of the request; undefined in any other nginx. */
  readonly apisix: ApisixRequest | undefined;
  /** nginx variables beyond `needs.vars`, and setting them. */
  readonly var: Variables;
  /**
   * Asks a location of this nginx, as ngx.location.capture does (lua-nginx-module), which refuses that
   * in HTTP/2 requests up to its version 0.10.23 at least.
   *
   * @param uri the location's path.
   * @throws {RestyTsError} "handler_failed": nginx refused it, or the answer broke off.
   */
  subrequest(uri: string, options?: SubrequestOptions): Promise<SubrequestResult>;
  /**
   * The upstream's address for http.balancer() in balancer_by_lua*.
   *
   * @param host an IP address, IPv6 with or without brackets, or "unix:/path"; in APISIX also a name.
   * @param port 1 to 65535; not for "unix:".
   * @throws {RestyTsError} "bad_response" for any other host or port.
   */
  setUpstream(host: string, port?: number): void;
  /**
   * Answers the client and ends the request's processing: later handlers of this phase do not run.
   * The answer stands, also when the handler throws afterwards.
   *
   * @param status 200 to 599. @param body text, bytes, or an object that is sent as JSON.
   * @throws {RestyTsError} "bad_response": bad status, or a body with 204 or 304.
   */
  exit(status: number, body?: string | Uint8Array | object): Exit;
}

/** headerFilter: the upstream's answer is there and not yet sent. Synchronous. */
export interface HeaderFilterContext extends BaseContext {
  /** What the upstream has answered, which may be changed. */
  readonly response: HttpResponse;
}

/** bodyFilter, delayedBodyFilter: for each chunk, or once for the buffered body. Synchronous. */
export interface BodyFilterContext extends BaseContext {
  /** The piece of the body. Valid in this call only. */
  readonly chunk: Uint8Array;
  /** Whether it is the last piece, which may be empty. */
  readonly last: boolean;
}

/** log: after the response was sent. Runs in batches, off the request's way. */
export interface LogContext extends BaseContext {
  /**
   * When the request had ended, in ms since the epoch, as `Date.now()` has it. The handler runs some
   * 100 ms later.
   */
  readonly endTime: number;
}
