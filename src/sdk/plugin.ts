/** definePlugin and the types around it. Pure TypeScript: no native file, no Node module. */
import type { Static, TSchema } from "@sinclair/typebox";
import type { ApisixOptions, MetadataOf } from "./apisix.js";
import type { StandardSchemaV1 } from "./standard-schema.js";
import type { Log } from "./context.js";
import type {
  BodyFilterContext,
  Exit,
  HeaderFilterContext,
  LogContext,
  RequestContext,
  SharedDict,
} from "./http.js";

/**
 * What the client gets when a handler fails: "closed" answers 500 (timeouts 504, overload 503) as
 * problem+json, "open" goes on as if the plugin were not there, and a status answers with that one.
 * In the filters all but "open" cut the connection. An answer that was given stands.
 */
export type Policy = "closed" | "open" | number;

/** What happens to the request when a handler cannot do its work; each is "closed" before the upstream, else "open". */
export interface Policies {
  /** The handler threw, or what it did was refused. */
  readonly onError?: Policy;
  /** The deadline passed. */
  readonly onTimeout?: Policy;
  /** Too many calls are pending, or the runtime is not there. */
  readonly onOverload?: Policy;
}

/** nginx's names, and two of APISIX's, in camel case. */
export type Phase =
  | "rewrite"
  | "access"
  | "beforeProxy"
  | "content"
  | "headerFilter"
  | "bodyFilter"
  | "delayedBodyFilter"
  | "log";

/** What one phase does otherwise than `policies` says. */
export interface PhaseOptions extends Policies {
  /** The deadline in ms; by default ts.start's timeout_ms, or sync_timeout_ms in the filters. */
  readonly timeoutMs?: number;
}

/** What travels with each message of the plugin, so that it needs not be asked for. */
export interface Needs {
  /** nginx variables, without "$": ctx.vars. */
  readonly vars?: readonly string[];
  /** Keys of ngx.ctx that Lua code sets: ctx.ctx. */
  readonly ctx?: readonly string[];
}

/** A TypeBox or plain JSON Schema, or any Standard Schema validator (standardschema.dev). */
export type ConfigSchema = TSchema | StandardSchemaV1 | Readonly<Record<string, unknown>>;

/** The handlers' configuration type: what the schema gives out, defaults applied. */
export type ConfigOf<S> = S extends TSchema
  ? Static<S>
  : S extends StandardSchemaV1<unknown, infer Output>
    ? Output
    : unknown;

/** The second argument of a handler. */
export interface Instance<Config, State, Metadata = unknown> {
  /** The configuration, validated, with defaults. Shared by all requests: do not change it. */
  readonly conf: Config;
  /** What `setup` returned for this configuration. */
  readonly state: State;
  /** In APISIX the plugin's metadata, validated, with defaults; undefined when it has none. */
  readonly metadata?: Metadata | undefined;
}

/** What `setup`, `handoff` and `teardown` get. */
export interface SetupContext {
  /** In `setup` after a reload: what `handoff` of the version before returned. */
  readonly previous?: unknown;
  /** In `teardown`: whether a newer version of the plugin has taken over. */
  readonly replaced?: boolean;
  /** Writes to nginx's error log, with the plugin's name. */
  readonly log: Log;
  /** A shared dictionary. @param name as in lua_shared_dict. */
  shared(name: string): SharedDict;
}

/**
 * What `responseHeaders` returns: names of fields and what they are set to, an array as a field for
 * each item. null deletes the field; undefined is as if the name was not there.
 */
export type ResponseHeaders = Readonly<
  Record<string, string | number | readonly (string | number)[] | null | undefined>
>;

type Result = Response | Exit | undefined | void;
/** A promise is not assignable to it, `void` alone would take one. */
type Sync = undefined | void | { then?: never };

/**
 * What definePlugin takes. At least one phase is there; each is called with its context and the
 * plugin's instance. What a handler throws is answered by the policy, its stack is in the error log.
 */
// eslint-disable-next-line @typescript-eslint/no-explicit-any -- of whoever has no use for it
export interface PluginDefinition<S, State, M = any, W = any> {
  /** As in the configuration and its file: lower case, digits, "-" and "_", from a letter on. */
  readonly name: string;
  /** Semantic version; "0.0.0" when left out. */
  readonly version?: string;
  /** Higher runs earlier in a chain, as in APISIX; 0 when left out. */
  readonly priority?: number;
  /** Without one the plugin takes no configuration but an empty one. */
  readonly schema?: S;
  /** What comes with each message, so that it need not be asked for. */
  readonly needs?: Needs;
  /** For all phases; `phases` may differ. Closed before the upstream, open after it, by default. */
  readonly policies?: Policies;
  /** Policies and deadlines of single phases. */
  readonly phases?: Readonly<Partial<Record<Phase, PhaseOptions>>>;
  /**
   * Whether a handler may run again for a request when its environment ended under it: it does no
   * harm when it runs twice. Else the request is answered by `policies.onOverload`.
   */
  readonly idempotent?: boolean;
  /** bodyFilter gets the whole body at once, up to `maxBytes`; a longer one is an error of this plugin. */
  readonly bufferResponse?: {
    /** Most bytes of a body that is collected, from 1 on. */
    readonly maxBytes: number;
  };
  /** What it is to Apache APISIX beyond that. */
  readonly apisix?: ApisixOptions<M, W>;

  /**
   * The response's fields that follow from the configuration alone: nginx sets them itself in all
   * responses, before the headerFilter handlers of the chain, and no call is made for them. They are
   * in place of those that the upstream sends. Is called once for each configuration, before
   * `setup`; when it throws, or what it returns is refused (as of `headers.set`, and
   * Content-Encoding), the configuration is.
   */
  responseHeaders?(conf: ConfigOf<S>): ResponseHeaders;
  /**
   * Once in a worker for each route or chain (inline configurations: for each content) and each
   * version of the plugin, before its first request. One that has not settled within ts.start's
   * start_timeout_ms (10 s) has failed.
   */
  setup?(conf: ConfigOf<S>, ctx: SetupContext): State | Promise<State>;
  /**
   * At a reload, before the newer version's `setup` for the same configuration, which gets what this
   * returns as `ctx.previous`. This version serves on, for good when the newer one is refused.
   */
  handoff?(
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
    ctx: SetupContext,
  ): unknown;
  /**
   * When the configuration has gone, when a newer version has taken over and all requests that began
   * with this one have ended, and when the worker shuts down.
   */
  teardown?(
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
    ctx: SetupContext,
  ): void | Promise<void>;

  /** nginx's rewrite phase. Returns nothing to go on; a Response or ctx.exit(…) answers the client. */
  rewrite?(
    ctx: RequestContext,
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
  ): Result | Promise<Result>;
  /** nginx's access phase, where most plugins belong. Returns as rewrite does. */
  access?(
    ctx: RequestContext,
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
  ): Result | Promise<Result>;
  /**
   * After all access handlers, right before the upstream is asked: the request as they have left it.
   * Returns as rewrite does.
   */
  beforeProxy?(
    ctx: RequestContext,
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
  ): Result | Promise<Result>;
  /** Answers in place of an upstream: returns a Response or ctx.exit(…). */
  content?(
    ctx: RequestContext,
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
  ): Response | Exit | Promise<Response | Exit>;
  /** Changes the answer's status and fields. Cannot wait: an async function is refused with "bad_plugin". */
  headerFilter?(
    ctx: HeaderFilterContext,
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
  ): Sync;
  /** Returns what is sent in place of the chunk; undefined: the chunk as it is. */
  bodyFilter?(
    ctx: BodyFilterContext,
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
  ): Uint8Array | string | Sync;
  /**
   * After all bodyFilters, for what is to see the body as the client gets it. Returns as bodyFilter
   * does; `bufferResponse` is not for it: it gets each piece when those before it have let it pass.
   */
  delayedBodyFilter?(
    ctx: BodyFilterContext,
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
  ): Uint8Array | string | Sync;
  /** After the response was sent; nobody waits for it. A failure is in the error log. */
  log?(
    ctx: LogContext,
    instance: Instance<ConfigOf<S>, Awaited<State>, MetadataOf<M>>,
  ): void | Promise<void>;
}

/** A plugin as definePlugin gives it. `any`: each has its own configuration and state. */
// eslint-disable-next-line @typescript-eslint/no-explicit-any
export type Plugin = PluginDefinition<any, any, any, any>;

/**
 * Defines a plugin. Its file's default export.
 *
 *     export default definePlugin({
 *       name: "hello",
 *       schema: Type.Object({ name: Type.String({ default: "world" }) }),
 *       access(ctx, { conf }) {
 *         ctx.request.headers.set("x-hello", conf.name);
 *       },
 *     });
 *
 * @returns the same object: what is wrong with it is told when it is loaded.
 */
export function definePlugin<
  const S extends ConfigSchema,
  State = undefined,
  const M extends ConfigSchema = ConfigSchema,
  W = undefined,
>(definition: PluginDefinition<S, State, M, W>): PluginDefinition<S, State, M, W> {
  return definition;
}
