/** An APISIX with the hooks ts-plugin-*, and routes that use them. */
import { type Apisix, type Resource, withApisix } from "./apisix.js";
import { typescript, type TypescriptOptions } from "./apisix-plugins.js";

export type Hook = "pre-req" | "post-req" | "post-resp";

/** `plugins` of a route whose hook runs these plugins, each with its value. */
export function hookConf(hook: Hook, conf: [string, unknown][], more = {}): Resource {
  const items = conf.map(([name, value]) => ({
    name,
    value: typeof value === "string" ? value : JSON.stringify(value),
  }));
  return { [`ts-plugin-${hook}`]: { conf: items, ...more } };
}

export function hookRoute(uri: string, hook: Hook, conf: [string, unknown][], more = {}): Resource {
  return { uri, plugins: hookConf(hook, conf, more) };
}

/**
 * @param sources of plugins: name to what comes after the import of definePlugin and Type; a name
 *     with an extension is a file as it is.
 */
export async function withHooks(
  sources: Record<string, string>,
  options: TypescriptOptions,
  body: (apisix: Apisix) => Promise<void>,
): Promise<void> {
  const pluginFiles = Object.fromEntries(
    Object.entries(sources).map(([name, text]) =>
      name.includes(".")
        ? [name, text]
        : [`${name}.ts`, `import { definePlugin, Type } from "resty-ts";\n${text}`],
    ),
  );
  const hooks = ["pre-req", "post-req", "post-resp"].map((hook) => `ts-plugin-${hook}`);
  const plugins = [...hooks, ...(options.plugins ?? [])];
  await withApisix(await typescript({ ...options, pluginFiles, plugins }), body);
}

/** A plugin whose rewrite is this code, with `ctx`, `request` and `conf` at hand. */
export const rewrites = (name: string, code: string): string => `
  export default definePlugin({
    name: "${name}",
    schema: Type.Object({ word: Type.Optional(Type.String()) }),
    async rewrite(ctx, { conf }) {
      const { request } = ctx;
      ${code}
    },
  });`;

/** What the control API says of the runtime in the (only) worker. */
export interface RuntimeReport {
  state: string;
  plugins: string[];
  contexts: { plugin: string; resource: string; version: string; contexts: number }[];
  runtime?: { lives: number; stalled: number; pending: number; thread_id: number };
}

export async function runtimeOf(apisix: Apisix): Promise<RuntimeReport> {
  const { contexts, ...report } = (
    await apisix.control("/v1/plugin/resty-ts")
  ).json<RuntimeReport>();
  // JSON from Lua has {} for an empty list.
  return { ...report, contexts: Array.isArray(contexts) ? contexts : [] };
}
