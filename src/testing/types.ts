/** What tests give to the kit and get back from it. Types only. */
import type { Carried, ReadonlyHeaderFields } from "../sdk/http.js";
import type { ConfigOf, ConfigSchema, Phase, PluginDefinition, Policies } from "../sdk/plugin.js";

/** Header fields; values are byte strings, as in Fetch. */
export type FieldsInit =
  | Iterable<readonly [name: string, value: string]>
  | Readonly<Record<string, string | readonly string[]>>;

/** A request as the upstream, or a location asked by a subrequest, gets it. */
export interface UpstreamRequest {
  /** "GET" and so on. */
  readonly method: string;
  /** As on the wire, with the query. */
  readonly uri: string;
  /** As nginx sends them, but for what proxy_set_header does. */
  readonly headers: ReadonlyHeaderFields;
  /** All of it; empty when there is none. */
  readonly body: Uint8Array;
  /** The body as UTF-8 text. */
  text(): string;
  /** The body as JSON. @throws {SyntaxError} when it is none. */
  json<T = unknown>(): T;
}

/** A piece of a body: text is sent as UTF-8. */
export type Piece = string | Uint8Array;

/** An answer of a server that a test plays; a Fetch Response will do as well. */
export interface UpstreamResponse {
  /** 200 when left out. */
  readonly status?: number;
  /** A Content-Length is added where the length is known. */
  readonly headers?: FieldsInit;
  /** An array, or what iterates, comes chunk by chunk and without a Content-Length. */
  readonly body?: Piece | Iterable<Piece> | AsyncIterable<Piece>;
}

/** Plays a server. What it throws fails the test. */
export type Upstream = (
  request: UpstreamRequest,
) => Response | UpstreamResponse | Promise<Response | UpstreamResponse>;

/** What a request has of its own, and else the kit's options say. */
export interface Surroundings {
  /** Who answers when no plugin does; by default 200 with an empty body. */
  readonly upstream?: Upstream;
  /**
   * Who answers subrequests: `location /x` as the key "/x", which is for all paths that begin with
   * it; the longest that fits is asked.
   */
  readonly locations?: Readonly<Record<string, Upstream>>;
  /**
   * nginx variables that the configuration defines with `set`, and their values. Only these can be
   * set by plugins. Those of nginx itself ($arg_…, $http_…, $request_uri and more) are there, too.
   */
  readonly vars?: Readonly<Record<string, string>>;
}

/** A consumer of APISIX's, as its configuration has it. */
export interface TestConsumer {
  /** Its name. */
  readonly username: string;
  /** What it has for plugins, by their names: `{ "key-auth": { key: "…" } }`. */
  readonly plugins: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** As APISIX gives them to plugins. */
  readonly labels?: Readonly<Record<string, string>>;
  /** The consumer group. */
  readonly groupId?: string;
}

/** What a kit is like, for all its requests. */
export interface KitOptions extends Surroundings {
  /** Names of shared dictionaries (lua_shared_dict). */
  readonly shared?: readonly string[];
  /** ts.start's timeout_ms: the deadline of phases whose plugins have none of their own; 5,000. */
  readonly timeoutMs?: number;
  /** client_body_buffer_size: a longer body is in a file; 16,384 bytes. */
  readonly clientBodyBufferSize?: number;
  /** The requests are Apache APISIX's, ctx.apisix is there and knows these consumers. */
  readonly consumers?: readonly TestConsumer[];
  /** APISIX's plugin metadata, by the plugins' names. */
  readonly metadata?: Readonly<Record<string, unknown>>;
  /** default_type: the Content-Type of answers that have none; "text/plain". */
  readonly defaultType?: string;
}

/** A request of a client. */
export interface TestRequest extends Surroundings {
  /** "GET", or "POST" when there is a body. */
  readonly method?: string;
  /** "/path?query" as on the wire, or with scheme and host before it; "/". */
  readonly url?: string;
  /** "Host: localhost" and a body's Content-Length are added. */
  readonly headers?: FieldsInit;
  /** A form brings its Content-Type along. */
  readonly body?: Piece | URLSearchParams | FormData | Blob;
  /** In place of `body`: is sent as JSON. */
  readonly json?: unknown;
  /** "1.1". */
  readonly httpVersion?: "1.0" | "1.1" | "2.0" | "3.0";
  /** "127.0.0.1". */
  readonly remoteAddress?: string;
  /** What Lua code has set in ngx.ctx. */
  readonly ctx?: Readonly<Record<string, Carried>>;
  /** These phases, or all, find the runtime with no room for a call: onOverload applies. */
  readonly overload?: boolean | readonly Phase[];
  /** The client leaves when it aborts. */
  readonly signal?: AbortSignal;
}

/** What the client got. */
export interface TestResponse {
  /** 0 when the connection was cut before there was one. */
  readonly status: number;
  /** Without those that nginx adds at the end: Date, Server, Connection, Transfer-Encoding. */
  readonly headers: ReadonlyHeaderFields;
  /** All of it. */
  readonly body: Uint8Array;
  /** The body's pieces, as they were sent. */
  readonly chunks: readonly Uint8Array[];
  /** The connection was closed before the response was complete. */
  readonly cut: boolean;
  /** The answer to a failure: the body when it is application/problem+json. */
  readonly problem: Problem | undefined;
  /** The body as UTF-8 text. */
  text(): string;
  /** The body as JSON. @throws {SyntaxError} when it is none. */
  json<T = unknown>(): T;
}

/** RFC 9457, as far as failures are told to clients. */
export interface Problem {
  /** "about:blank". */
  readonly type: string;
  /** The status in words. */
  readonly title: string;
  /** As in the status line. */
  readonly status: number;
  /** $request_id, which the line in nginx's error log has, too. */
  readonly request_id: string;
}

/** A response whose body is not collected: for streams without an end. */
export interface OpenResponse {
  /** 0 when the connection was cut before there was one. */
  readonly status: number;
  /** As of TestResponse. */
  readonly headers: ReadonlyHeaderFields;
  /** Pulls the pieces; leaving the loop is the client that leaves. */
  readonly pieces: AsyncIterable<Uint8Array>;
  /** Everything, when the request is over; `pieces` must have been read, or left. */
  readonly result: Promise<TestResult>;
}

/** A line of ctx.log. */
export interface LogLine {
  /** The method that wrote it. */
  readonly level: "error" | "warn" | "notice" | "info" | "debug";
  /** Whose it is. */
  readonly plugin: string;
  /** The arguments as console.log would print them. */
  readonly text: string;
}

/** A failure, as it is in nginx's error log. */
export interface Failure {
  /** Of the plugin; of all the phase's when the call as a whole has failed. */
  readonly plugin: string;
  /** Or "setup", "teardown", "access, in waitUntil". */
  readonly phase: string;
  /** What the policy has made of it; 0: it was let pass, or there was nobody to answer. */
  readonly status: number;
  /** The error with its stack, or why the call has failed. */
  readonly text: string;
}

/** An address for http.balancer(). */
export interface UpstreamAddress {
  /** An IP address, or "unix:/path". */
  readonly host: string;
  /** null for "unix:". */
  readonly port: number | null;
}

/** All that came of a request. */
export interface TestResult {
  /** What the client got. */
  readonly response: TestResponse;
  /** What the upstream got; undefined when a plugin answered. */
  readonly upstreamRequest: UpstreamRequest | undefined;
  /** What ctx.setUpstream gave for balancer_by_lua*. */
  readonly upstreamAddress: UpstreamAddress | undefined;
  /** The name of the consumer that ctx.apisix.attachConsumer was given. */
  readonly consumer: string | undefined;
  /** ngx.ctx at the end. */
  readonly ctx: Readonly<Record<string, unknown>>;
  /** The variables of `vars` at the end; one that was cleared is undefined. */
  readonly vars: Readonly<Record<string, string | undefined>>;
  /** Lines of ctx.log, those of waitUntil as they come. */
  readonly log: readonly LogLine[];
  /** Failures, those of waitUntil as they come. */
  readonly errors: readonly Failure[];
  /** Messages to the host by phase; phases without one are left out. */
  readonly crossings: Readonly<Partial<Record<Phase, number>>>;
}

/** A shared dictionary as a test looks at it: at once, and it cannot fail. */
export interface TestDict {
  /** A value; null when there is none, or a list. */
  get(key: string): string | number | boolean | Uint8Array | null;
  /** Sets a value. @param ttlSeconds 0 or left out: for ever. */
  set(key: string, value: string | number | boolean, ttlSeconds?: number): void;
  /** A list, from its left end; empty when there is none. */
  list(key: string): readonly (string | number | Uint8Array)[];
  /** Of all that have not expired. */
  keys(): string[];
}

/** Plugins ready for requests: what testPlugin and testChain give. */
export interface TestKit {
  /** Sends a request through all phases. Rejects when `upstream` or a location throws. */
  request(request?: TestRequest): Promise<TestResult>;
  /** The same, resolved when the response's header is there. */
  open(request?: TestRequest): Promise<OpenResponse>;
  /** A dictionary of `options.shared`. @throws {Error} when it is not there. */
  shared(name: string): TestDict;
  /** Lets time pass for the shared dictionaries, whose clock stands still otherwise. */
  advance(seconds: number): void;
  /** What waitUntil was given has ended. */
  settled(): Promise<void>;
  /** All lines of ctx.log, setup's and teardown's too. */
  readonly log: readonly LogLine[];
  /** All failures. */
  readonly errors: readonly Failure[];
  /** As a worker that shuts down: what waitUntil was given ends, then teardown. */
  close(): Promise<void>;
}

/** What a schema takes: where it has defaults the value may be left out. */
export type PartialConfig<T> = T extends readonly (infer Item)[]
  ? readonly PartialConfig<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]?: PartialConfig<T[Key]> }
    : T;

/** What a chain says over a plugin's own. */
export interface MemberOptions extends Policies {
  /** The deadline of each of its phases. */
  readonly timeoutMs?: number;
  /** In place of the plugin's own. */
  readonly priority?: number;
}

/** A plugin in a chain. */
export interface Member<S = ConfigSchema, State = unknown> {
  /** As definePlugin gives it. */
  readonly plugin: PluginDefinition<S, State>;
  /** Checked against the schema; left out: {}. */
  readonly conf?: PartialConfig<ConfigOf<S>>;
  /** What the chain says over the plugin's own. */
  readonly options?: MemberOptions;
}
