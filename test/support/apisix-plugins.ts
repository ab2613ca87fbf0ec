/**
 * TypeScript plugins in APISIX: a test's own or the examples, with the files that
 * `resty-ts apisix generate` writes for them, and the runtime's settings in config.yaml.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { type Apisix, type ApisixOptions, withApisix } from "./apisix.js";
import { EXAMPLE_PLUGINS } from "./gateway.js";
import { makeFolder, PROJECT_ROOT } from "./project.js";

const CLI = join(PROJECT_ROOT, "dist", "cli", "main.js");
const COMMAND_MS = 60_000;

export interface TypescriptOptions extends Omit<ApisixOptions, "plugins"> {
  /** Plugins of APISIX's own: name to source. The import of definePlugin and Type is put before. */
  typescript?: Record<string, string>;
  /** Other files of the plugins' folder: hooks' plugins, say. */
  pluginFiles?: Record<string, string>;
  /** Names of examples/plugins, which are then all the TypeScript there is. */
  examples?: string[];
  /** Of generate. */
  prefix?: string;
  /** More plugins of APISIX's or of the test, by name. */
  plugins?: string[];
}

const IMPORT = 'import { definePlugin, Type } from "resty-ts";\n';

/** Runs generate; what it wrote, by APISIX's name. */
async function generate(
  folder: string,
  names: string[],
  prefix: string,
): Promise<Record<string, string>> {
  if (names.length === 0) return {};
  const out = mkdtempSync(join(makeFolder("generated"), "out-"));
  const args = ["apisix", "generate", "--plugins", folder, "--out", out, "--prefix", prefix];
  await promisify(execFile)(process.execPath, [CLI, ...args, ...names], { timeout: COMMAND_MS });
  const written = join(out, "apisix", "plugins");
  const files = readdirSync(written).map((file): [string, string] => [
    file.replace(/\.lua$/, ""),
    readFileSync(join(written, file), "utf8"),
  ]);
  rmSync(join(out, ".."), { recursive: true });
  return Object.fromEntries(files);
}

async function generateOwn(
  plugins: Record<string, string>,
  prefix: string,
): Promise<Record<string, string>> {
  const folder = makeFolder("plugins");
  for (const [name, text] of Object.entries(plugins)) {
    writeFileSync(join(folder, `${name}.ts`), text);
  }
  try {
    return await generate(folder, Object.keys(plugins), prefix);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** The options of an APISIX with these plugins, whose list of plugins has all of them. */
export async function typescript(options: TypescriptOptions): Promise<ApisixOptions> {
  const { typescript: own = {}, examples, prefix = "", pluginFiles = {}, ...rest } = options;
  const files = Object.fromEntries(
    Object.entries(own).map(([name, text]) => [name, IMPORT + text]),
  );
  // null: the runtime has no settings at all.
  const settings = options.pluginAttr?.["resty-ts"];
  const lua =
    examples === undefined
      ? await generateOwn(files, prefix)
      : await generate(EXAMPLE_PLUGINS, examples, prefix);
  const inFolder = [
    ...Object.entries(files).map(([name, text]): [string, string] => [`${name}.ts`, text]),
    ...Object.entries(pluginFiles),
  ];
  return {
    ...rest,
    plugins: ["resty-ts", ...Object.keys(lua), ...(options.plugins ?? [])],
    lua: { ...lua, ...options.lua },
    files: {
      "plugins/.keep": "",
      ...Object.fromEntries(inFolder.map(([name, text]) => [`plugins/${name}`, text])),
      ...options.files,
    },
    pluginAttr: {
      ...options.pluginAttr,
      ...(settings !== null && {
        "resty-ts": {
          plugins: examples === undefined ? "${{PREFIX}}plugins" : EXAMPLE_PLUGINS,
          // A busy machine must not let a filter's response pass: that is not what is tested.
          sync_timeout_ms: 10_000,
          ...(settings as object | undefined),
        },
      }),
    },
  };
}

/** Runs `body` with an APISIX that has these plugins. */
export async function withTypescript<T>(
  options: TypescriptOptions,
  body: (apisix: Apisix) => T | Promise<T>,
): Promise<T> {
  return withApisix(await typescript(options), body);
}
