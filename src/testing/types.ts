/** What tests give to the kit and get back from it. Types only. */
import type { Carried, HeaderFields } from "../sdk/http.js";
import type { ConfigOf, ConfigSchema, Phase, PluginDefinition, Policies } from "../sdk/plugin.js";

/** Header fields; values are byte strings, as in Fetch. */
export type FieldsInit =
  | Iterable<readonly [name: string, value: string]>
  | Readonly<Record<string, string | readonly string[]>>;

/** A request as the upstream, or a location asked by a subrequest, gets it. */
export interface UpstreamRequest {
  readonly method: string;
  /** As on the wire, with the query. */
  readonly uri: string;
  readonly headers: HeaderFields;
  readonly body: Uint8Array;
  text(): string;
  json<T = unknown>(): T;
}

/** A piece of a body: text is sent as UTF-8. */
export type Piece = string | Uint8Array;

export interface UpstreamResponse {
  /** 200 when left out. */
  readonly status?: number;
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

export interface KitOptions extends Surroundings {
  /** Names of shared dictionaries (lua_shared_dict). */
  readonly shared?: readonly string[];
  /** ts.start's timeout_ms: the deadline of phases whose plugins have none of their own; 5,000. */
  readonly timeoutMs?: number;
  /** client_body_buffer_size: a longer body is in a file; 16,384 bytes. */
  readonly clientBodyBufferSize?: number;
  /** default_type: the Content-Type of answers that have none; "text/plain". */
  readonly defaultType?: string;
}

export interface TestRequest extends Surroundings {
  /** "GET", or "POST" when there is a body. */
  readonly method?: string;
  /** "/path?query" as on the wire, or with scheme and host before it; "/". */
  readonly url?: string;
  /** "Host: localhost" and a body's Content-Length are added. */
  readonly headers?: FieldsInit;
  readonly body?: Piece | URLSearchParams | FormData | Blob;
  /** In place of `body`: is sent as JSON. */
  readonly json?: unknown;
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

export interface TestResponse {
  /** 0 when the connection was cut before there was one. */
  readonly status: number;
  /** Without those that nginx adds at the end: Date, Server, Connection, Transfer-Encoding. */
  readonly headers: HeaderFields;
  readonly body: Uint8Array;
  /** The body's pieces, as they were sent. */
  readonly chunks: readonly Uint8Array[];
  /** The connection was closed before the response was complete. */
  readonly cut: boolean;
  /** The answer to a failure: the body when it is application/problem+json. */
  readonly problem: Problem | undefined;
  text(): string;
  json<T = unknown>(): T;
}

/** RFC 9457, as far as failures are told to clients. */
export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly request_id: string;
}

/** A response whose body is not collected: for streams without an end. */
export interface OpenResponse {
  readonly status: number;
  readonly headers: HeaderFields;
  /** Pulls the pieces; leaving the loop is the client that leaves. */
  readonly pieces: AsyncIterable<Uint8Array>;
  /** Everything, when the request is over; `pieces` must have been read, or left. */
  readonly result: Promise<TestResult>;
}

export interface LogLine {
  readonly level: "error" | "warn" | "notice" | "info" | "debug";
  readonly plugin: string;
  readonly text: string;
}

/** A failure, as it is in nginx's error log. */
export interface Failure {
  /** Of the plugin; of all the phase's when the call as a whole has failed. */
  readonly plugin: string;
  readonly phase: string;
  /** What the policy has made of it; 0: it was let pass, or there was nobody to answer. */
  readonly status: number;
  readonly text: string;
}

export interface TestResult {
  readonly response: TestResponse;
  /** What the upstream got; undefined when a plugin answered. */
  readonly upstreamRequest: UpstreamRequest | undefined;
  /** What ctx.setUpstream gave for balancer_by_lua*. */
  readonly upstreamAddress: { readonly host: string; readonly port: number | null } | undefined;
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
  get(key: string): string | number | boolean | Uint8Array | null;
  set(key: string, value: string | number | boolean, ttlSeconds?: number): void;
  list(key: string): readonly (string | number | Uint8Array)[];
  keys(): string[];
}

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
  readonly timeoutMs?: number;
  readonly priority?: number;
}

export interface Member<S = ConfigSchema, State = unknown> {
  readonly plugin: PluginDefinition<S, State>;
  readonly conf?: PartialConfig<ConfigOf<S>>;
  readonly options?: MemberOptions;
}
