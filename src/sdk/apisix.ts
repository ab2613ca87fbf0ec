/** What a plugin says to Apache APISIX, and asks of it. Types only. */
import type { Exit, RequestContext } from "./http.js";
import type { ConfigOf, ConfigSchema, SetupContext } from "./plugin.js";

/** A route of APISIX's public or control API that a plugin answers. */
export interface ApiRoute<State = unknown> {
  /** "GET" and so on; at least one. */
  readonly methods: readonly string[];
  /** Paths as APISIX takes them, from "/" on; at least one. */
  readonly uris: readonly string[];
  /**
   * Answers the request: with a Response or ctx.exit(…). Failures are answered by the plugin's
   * `policies`.
   *
   * @param state what `init` returned.
   */
  handler(ctx: RequestContext, state: State): Response | Exit | Promise<Response | Exit>;
}

/**
 * What definePlugin takes for Apache APISIX, beyond what it is in nginx. `resty-ts apisix generate`
 * hands it to APISIX. Outside of APISIX nothing of it is used.
 */
export interface ApisixOptions<M = ConfigSchema, W = unknown> {
  /** Of what a consumer has for this plugin: ctx.apisix.findConsumer gives it as `conf`. */
  readonly consumerSchema?: ConfigSchema;
  /** Of the plugin's metadata, one for all its configurations: `metadata` of a handler's instance. */
  readonly metadataSchema?: M;
  /** Fields that APISIX stores encrypted, as "secret" or "redis.password". */
  readonly encryptFields?: readonly string[];
  /** "auth": it says who the consumer is, and APISIX merges the consumer's own plugins then. */
  readonly type?: "auth";
  /** "prefer_route": as a global rule it does not run where the route has the plugin, too. */
  readonly runPolicy?: "prefer_route";
  /** Once in each worker, before its routes are served. */
  init?(ctx: SetupContext): W | Promise<W>;
  /** When APISIX lets go of the plugin, when a newer version has taken over, and at the worker's end. */
  destroy?(state: Awaited<W>, ctx: SetupContext): void | Promise<void>;
  /** Routes of the public API; the plugin public-api makes them reachable. */
  readonly api?: readonly ApiRoute<Awaited<W>>[];
  /** Routes of the control API; the paths begin with "/v1/plugin/" by custom. */
  readonly controlApi?: readonly ApiRoute<Awaited<W>>[];
}

/** The handlers' metadata type. */
export type MetadataOf<M> = ConfigOf<M>;

/** One of APISIX's consumers, with what it has for the plugin that asked. */
export interface Consumer<Conf = unknown> {
  /** By which APISIX knows it. */
  readonly name: string;
  /** As it was given. */
  readonly username: string | undefined;
  /** Of the consumer group that it is in. */
  readonly groupId: string | undefined;
  /** As they were given. */
  readonly labels: Readonly<Record<string, string>> | undefined;
  /** The label "custom_id". */
  readonly customId: string | undefined;
  /** Of the credential by which it was found. */
  readonly credentialId: string | undefined;
  /** What it has for this plugin, as APISIX has it: checked against `consumerSchema`, secrets decrypted. */
  readonly conf: Conf;
}

/** What APISIX has of the request: ctx.apisix. */
export interface ApisixRequest {
  /**
   * The consumer whose configuration for this plugin has the value in the field, "key" say. One
   * question to APISIX.
   *
   * @returns null when there is none.
   * @throws {RestyTsError} "handler_failed" as APISIX says.
   */
  findConsumer<Conf = Readonly<Record<string, unknown>>>(
    field: string,
    value: string,
  ): Promise<Consumer<Conf> | null>;
  /**
   * Says that the request is this consumer's: its own plugins run, the upstream gets its name in
   * X-Consumer-Username, as with APISIX's own plugins of type "auth".
   *
   * @param consumer the one that findConsumer gave last.
   */
  attachConsumer(consumer: Consumer): void;
}
