/**
 * `resty-ts build`: plugins as files that nginx's machine can load with no npm and no compiler.
 *
 * Invariant: nothing is written while any plugin is wrong, nor over what this command has not made; the
 * same sources give the same bytes.
 */
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeFolder } from "../folders.js";
import { UsageError } from "../exit.js";
import type { LoadedPlugin, PluginFolder } from "../plugin-files.js";
import { shownPath } from "../project.js";
import { bundle, type Bundled } from "./bundle.js";
import { type BuildManifest, type BuiltPlugin, describe } from "./manifest.js";

export interface BuildReport {
  /** Absolute. */
  readonly out: string;
  readonly manifest: BuildManifest;
  /** Each `file: what is wrong, and the cure`; nothing was written when there is one. */
  readonly problems: readonly string[];
}

const MANIFEST = "manifest.json";

/** What an earlier run has left in the folder. @throws {UsageError} when it is not this command's. */
function oldFiles(out: string): string[] {
  if (!existsSync(out)) return [];
  const names = readdirSync(out).filter((name) => name !== "node_modules");
  if (names.length === 0) return [];
  try {
    const text = readFileSync(path.join(out, MANIFEST), "utf8");
    const { restyTs, plugins } = JSON.parse(text) as Partial<BuildManifest>;
    if (restyTs === undefined || plugins === undefined) throw new Error("it is another's");
    return plugins.flatMap(({ file }) => [file, `${file}.map`]).map((name) => path.basename(name));
  } catch (error) {
    throw new UsageError(
      `${out} is not empty, and was not made by this command: --out is a folder of its own`,
      { cause: error },
    );
  }
}

interface Made {
  readonly described: BuiltPlugin;
  readonly bundled: Bundled;
}

async function make(loaded: LoadedPlugin, folder: string, out: string): Promise<Made | string> {
  if ("problem" in loaded) return loaded.problem;
  const name = `${loaded.name}.mjs`;
  try {
    const bundled = await bundle(path.join(folder, loaded.file), path.join(out, name));
    const external = bundled.natives.map((each) => each.name).sort();
    return { described: describe(loaded.plugin, name, bundled.code, external), bundled };
  } catch (error) {
    return (error as Error).message;
  }
}

function write(out: string, made: readonly Made[], manifest: BuildManifest): void {
  makeFolder(out);
  for (const { described, bundled } of made) {
    writeFileSync(path.join(out, described.file), bundled.code);
    writeFileSync(path.join(out, `${described.file}.map`), bundled.map);
  }
  const json = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;
  writeFileSync(path.join(out, MANIFEST), json(manifest));
  // With it `npm install` there brings what is native, built for that machine.
  const file = path.join(out, "package.json");
  const { external: dependencies } = manifest;
  if (Object.keys(dependencies).length === 0) rmSync(file, { force: true });
  else writeFileSync(file, json({ private: true, type: "module", dependencies }));
}

/**
 * @param names of the plugins, or none for all that are in the folder.
 * @param version of resty-ts.
 * @throws {UsageError}
 */
export async function build(
  folder: PluginFolder,
  names: readonly string[],
  given: string,
  version: string,
): Promise<BuildReport> {
  const out = path.resolve(given);
  if (`${folder.path}${path.sep}`.startsWith(`${out}${path.sep}`)) {
    throw new UsageError(`--out ${given} has the plugins' sources in it: give it a folder of its own`);
  }
  const old = oldFiles(out);
  const made: Made[] = [];
  const problems: string[] = [];
  const wanted = names.length > 0 ? [...new Set(names)] : folder.names();
  for (const loaded of await folder.load(wanted)) {
    const result = await make(loaded, folder.path, out);
    if (typeof result !== "string") made.push(result);
    else problems.push(`${shownPath(path.join(folder.path, loaded.file))}: ${result}`);
  }
  made.sort((a, b) => (a.described.name < b.described.name ? -1 : 1));
  const natives = made.flatMap(({ bundled }) => bundled.natives);
  const external = Object.fromEntries(
    natives.map(({ name, version: its }) => [name, its] as const).sort(),
  );
  const plugins = made.map(({ described }) => described);
  const manifest: BuildManifest = { restyTs: version, plugins, external };
  if (problems.length === 0) {
    for (const name of old) rmSync(path.join(out, name), { force: true });
    write(out, made, manifest);
  }
  return { out, manifest, problems };
}
