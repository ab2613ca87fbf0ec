/** nginx with plugins that a test writes, and what the host keeps for its requests. */
import { until } from "./deadline.js";
import { type Nginx, type NginxOptions, withNginx } from "./nginx.js";
import { plainContent } from "./nginx-config.js";

/** Answers with what the engine keeps. */
export const KEPT_LOCATION = plainContent(
  `ngx.print(require("cjson").encode(assert(require("resty.ts").import("resty-ts:http").kept())))`,
);

/** Options for an nginx whose workers run these plugins: name to source. */
export function pluginOptions(
  plugins: Record<string, string>,
  options: NginxOptions = {},
): NginxOptions {
  const files = Object.fromEntries(
    Object.entries(plugins).map(([name, source]) => [`plugins/${name}.ts`, source]),
  );
  return {
    ...options,
    files: { ...options.files, ...files },
    initWorker: `
      local prefix = ngx.config.prefix()
      assert(require("resty.ts").start {
          plugins = prefix .. "plugins", modules = prefix .. "modules", runtime_dir = prefix .. "tmp",
      })
      ${options.initWorker ?? ""}`,
    locations: {
      "= /_stats": plainContent(`ngx.print(require("cjson").encode(require("resty.ts").stats()))`),
      "= /_kept": KEPT_LOCATION,
      ...options.locations,
    },
  };
}

export function withPlugins<T>(
  plugins: Record<string, string>,
  options: NginxOptions,
  body: (nginx: Nginx) => T | Promise<T>,
): Promise<T> {
  return withNginx(pluginOptions(plugins, options), body);
}

export interface Kept {
  chains: number;
  requests: number;
  runs: number;
  streams: number;
  background: number;
}

export function keptOf(nginx: Nginx): Promise<Kept> {
  return nginx.json<Kept>("/_kept");
}

/** Nothing is kept for any request, and no call is pending but the one that asks. */
export async function untilNothingKept(nginx: Nginx): Promise<void> {
  let last = "";
  await until(
    "nothing is kept for requests that have ended",
    async () => {
      const { requests, runs, streams } = await keptOf(nginx);
      const { pending } = await nginx.json<{ pending: number }>("/_stats");
      last = JSON.stringify({ requests, runs, streams, pending });
      return requests + runs + streams + pending === 0;
    },
    10_000,
    () => last,
  );
}
