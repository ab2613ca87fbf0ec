/** The bundle's nginx.conf and README.md, from templates/bundle: what differs between bundles is filled in. */
import { readFileSync } from "node:fs";
import path from "node:path";
import type { BuiltPlugin } from "../build/manifest.js";
import { PACKAGE } from "../package.js";
import type { Libraries } from "./libraries.js";

export interface Facts {
  readonly name: string;
  readonly platform: string;
  readonly libraries: Libraries;
  readonly plugins: readonly BuiltPlugin[];
  /** Native packages, each name@version. */
  readonly external: readonly string[];
}

export const TEMPLATES = path.join(PACKAGE, "templates/bundle");

/** Fields of its configuration that must be there. */
function requiredOf({ schema }: BuiltPlugin): string[] {
  const { required } = (schema ?? {}) as { required?: unknown };
  return Array.isArray(required) ? required.map(String) : [];
}

/** One that needs a configuration is left out until it has one: the sample runs as it is. */
function route(plugin: BuiltPlugin): string {
  const required = requiredOf(plugin);
  const call = `http.route("${plugin.name}", { { name = "${plugin.name}", conf = {} } })`;
  if (required.length === 0) return `        ${call}`;
  return `        -- It needs a configuration (${required.join(", ")}):\n        -- ${call}`;
}

function location(plugin: BuiltPlugin): string {
  const answers = plugin.phases.includes("content")
    ? 'content_by_lua_block { require "resty.ts.http".run() }'
    : 'content_by_lua_block { ngx.say("ok") } # or proxy_pass http://BACKEND;';
  const lines = [
    `location /${plugin.name} {`,
    `    set $resty_ts_route ${plugin.name};`,
    "    include conf/resty_ts.conf;",
    `    ${answers}`,
    "}",
  ];
  const comment = requiredOf(plugin).length > 0 ? "# " : "";
  return lines.map((line) => `        ${comment}${line}`).join("\n");
}

function fill(template: string, values: Readonly<Record<string, string>>): Buffer {
  const text = readFileSync(path.join(TEMPLATES, template), "utf8");
  return Buffer.from(
    text.replace(/^[ \t]*@(\w+)@$|@(\w+)@/gm, (_, line?: string, word?: string) => {
      const value = values[line ?? word ?? ""];
      if (value === undefined) throw new Error(`${template} has an unknown @${line ?? word}@`);
      return value;
    }),
  );
}

export function nginxConf({ plugins }: Facts): Buffer {
  return fill("nginx.conf", {
    routes: plugins.map(route).join("\n"),
    locations: plugins.map(location).join("\n\n"),
  });
}

function nodeFor(abis: readonly number[]): string {
  const node = "a `node`, 18 or later, on the `PATH`";
  if (abis.length === 0) return `${node}, which runs beside nginx's workers;`;
  const libnodes = abis.map((abi) => `libnode.so.${abi}`).join(" or ");
  return (
    `${libnodes} (Debian and Ubuntu: by \`libnode-dev\`; Fedora: \`nodejs-libs\`), by which Node runs in ` +
    `nginx's workers. Without it ${node} runs beside them.`
  );
}

export function readme({ name, platform, libraries, plugins, external }: Facts): Buffer {
  const { abis, glibc } = libraries;
  const ready = plugins.find((plugin) => requiredOf(plugin).length === 0);
  const natives =
    external.length === 0
      ? "Nothing has to be installed beside them."
      : `They import native packages, ${external.join(", ")}: run \`npm install\` in plugins/ on this kind of machine.`;
  return fill("README.md", {
    name,
    platform,
    glibc: glibc === undefined ? "" : `, glibc ${glibc} or later`,
    node: nodeFor(abis),
    plugins: plugins.map((plugin) => plugin.name).join(", "),
    natives,
    request: ready?.name ?? "PLUGIN",
  });
}
