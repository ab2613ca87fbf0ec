/**
 * APISIX for tests: nginx with a small stand-in for APISIX (test/support/apisix), or a real one,
 * before an upstream that tells what it has seen. `withApisix` is the way in.
 *
 * Resources are changed while it runs; whoever changes them waits until every process has taken
 * the change, so that the next request sees it.
 */
import { until } from "./deadline.js";
import { type GatewayReply, type GatewayRequest, makeClient, Upstream } from "./gateway.js";
import { type ApisixServer, startRealApisix, realApisix } from "./apisix-real.js";
import { startStandIn } from "./apisix-stand-in.js";

type Json = string | number | boolean | null | Json[] | { [key: string]: Json };

/** A route, a service, …: as APISIX's Admin API has it. */
export type Resource = Record<string, Json>;

/** A plugin's name to its configuration. */
export type PluginConfs = Record<string, Json>;

export interface Resources {
  /** Those without an upstream of any kind get the upstream of the test; `upstream: null` has none. */
  routes?: Resource[];
  services?: Resource[];
  upstreams?: Resource[];
  consumers?: Resource[];
  consumerGroups?: Resource[];
  pluginConfigs?: Resource[];
  globalRules?: Resource[];
  /** By plugin. */
  pluginMetadata?: Record<string, Resource>;
}

export interface ApisixOptions extends Resources {
  /** config.yaml's list of plugins. */
  plugins: string[];
  /** config.yaml's `plugin_attr`. "${{PREFIX}}" in it is this nginx's folder, with "/". */
  pluginAttr?: Record<string, Json>;
  /** Lua plugins of the test: name to source. */
  lua?: Record<string, string>;
  /** Files below the prefix, before the start. */
  files?: Record<string, string>;
  /** Names of lua_shared_dict. */
  dicts?: string[];
  workers?: number;
  /** Of a real APISIX's error log; left out: as whoever runs it has it. */
  logLevel?: string;
  /** How resources follow changes: "yaml" (the default) makes all anew, "etcd" the changed ones. */
  provider?: "yaml" | "etcd";
  /** Error-log lines of level error and above that are part of the test. */
  allowLog?: RegExp[];
}

/** The options of a test that only the stand-in can run. */
export const onlyStandIn = { skip: realApisix === undefined ? false : "needs the stand-in" };

const KEYS = {
  routes: "routes",
  services: "services",
  upstreams: "upstreams",
  consumers: "consumers",
  consumerGroups: "consumer_groups",
  pluginConfigs: "plugin_configs",
  globalRules: "global_rules",
} as const;

function withUpstream(resource: Resource, upstream: Upstream): Resource {
  const { upstream: own, ...rest } = resource;
  if (own === null) return rest;
  if (own !== undefined || "upstream_id" in rest || "service_id" in rest) return resource;
  const nodes = { [`127.0.0.1:${String(upstream.port)}`]: 1 };
  return { ...rest, upstream: { type: "roundrobin", nodes } };
}

/** What stands in apisix.yaml. */
function fileOf(resources: Resources, upstream: Upstream): Record<string, Json> {
  const file: Record<string, Json> = {};
  for (const [name, key] of Object.entries(KEYS)) {
    const items = resources[name as keyof typeof KEYS] ?? [];
    file[key] = items.map((item, index) => {
      const named = "id" in item || "username" in item ? item : { id: String(index + 1), ...item };
      return key === "routes" || key === "services" ? withUpstream(named, upstream) : named;
    });
  }
  file.plugin_metadata = Object.entries(resources.pluginMetadata ?? {}).map(([id, metadata]) => ({
    id,
    ...metadata,
  }));
  return file;
}

export class Apisix {
  readonly upstream: Upstream;
  readonly server: ApisixServer;
  #resources: Resources;

  private constructor(server: ApisixServer, upstream: Upstream, resources: Resources) {
    this.server = server;
    this.upstream = upstream;
    this.#resources = resources;
  }

  static async start(options: ApisixOptions): Promise<Apisix> {
    const upstream = await Upstream.start();
    try {
      const start = realApisix === undefined ? startStandIn : startRealApisix;
      const server = await start(options, fileOf(options, upstream));
      return new Apisix(server, upstream, options);
    } catch (error) {
      await upstream.stop();
      throw error;
    }
  }

  /** One request on a connection of its own. */
  ask(path: string, request?: GatewayRequest): Promise<GatewayReply> {
    return makeClient("HTTP/1.1", this.server.port).ask(path, request);
  }

  /** One request to the control API. */
  control(path: string, request?: GatewayRequest): Promise<GatewayReply> {
    return makeClient("HTTP/1.1", this.server.controlPort).ask(path, request);
  }

  /** Replaces the lists that are given. The next request sees it. */
  async change(resources: Resources): Promise<void> {
    this.#resources = { ...this.#resources, ...resources };
    await this.server.change(fileOf(this.#resources, this.upstream));
  }

  /** `apisix reload`: new workers, and the old ones gone. */
  reload(): Promise<void> {
    return this.server.reload();
  }

  /** Plugin hot reload, by the control API; with other plugins in config.yaml where they are given. */
  reloadPlugins(plugins?: string[]): Promise<void> {
    return this.server.reloadPlugins(plugins);
  }

  /** Has APISIX's caches forget, as they do by themselves after minutes; a real one is not asked. */
  async forget(): Promise<void> {
    if (this.server.nginx === undefined) return;
    const { status } = await this.control("/stand-in/forget", { method: "PUT" });
    if (status !== 200) throw new Error(`PUT /stand-in/forget: ${String(status)}`);
  }

  errorLog(): string {
    return this.server.errorLog();
  }

  /** Resolves when the error log has it. */
  untilLog(pattern: RegExp): Promise<RegExpExecArray> {
    return until(
      `the error log matches ${String(pattern)}`,
      () => pattern.exec(this.errorLog()),
      10_000,
      () => this.errorLog().slice(-4000),
    );
  }

  async stop(): Promise<void> {
    try {
      await this.server.stop();
    } finally {
      await this.upstream.stop();
    }
  }
}

/** Runs `body` with an APISIX, then stops and checks it. A failure carries the end of its log. */
export async function withApisix<T>(
  options: ApisixOptions,
  body: (apisix: Apisix) => T | Promise<T>,
): Promise<T> {
  const apisix = await Apisix.start(options);
  let result: T;
  try {
    result = await body(apisix);
  } catch (error) {
    const log = apisix.errorLog().slice(-6000);
    const stop = await apisix.stop().then(
      () => "",
      (problem: unknown) => String(problem).split("\n--- log")[0] ?? "",
    );
    if (error instanceof Error) error.message += `\n${stop}\n--- error log\n${log}`;
    throw error;
  }
  await apisix.stop();
  return result;
}
