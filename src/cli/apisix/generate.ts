/**
 * `resty-ts apisix generate`: the Lua files by which APISIX has TypeScript plugins as its own.
 *
 * Invariant: a file that was not written by it is never overwritten, and one that would be the same is
 * not touched; a plugin that is wrong keeps no other from its file.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeFolder } from "../folders.js";
import { takesText } from "../../http/runner.js";
import type { PluginFolder, LoadedPlugin } from "../plugin-files.js";
import { describePlugin } from "./describe.js";
import { isGenerated, luaFile } from "./lua-file.js";
import { isApisixOwn } from "./names.js";

export interface GenerateOptions {
  /** Where `apisix/plugins` is, or will be. */
  readonly out: string;
  /** Before each plugin's name; "": none. */
  readonly prefix: string;
  /** Nothing is written; what would be is told. */
  readonly check: boolean;
}

export interface GeneratedFile {
  readonly plugin: string;
  /** APISIX's name for it. */
  readonly name: string;
  readonly file: string;
  /** Whether it was, or with `check` would be, written. */
  readonly changed: boolean;
}

export interface Report {
  readonly files: readonly GeneratedFile[];
  /** Each `file: what is wrong, and the cure`. */
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

function textOf(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

/** At once, or not at all: APISIX may be about to read it. */
function write(file: string, text: string): void {
  makeFolder(path.dirname(file));
  const fresh = `${file}.${process.pid}.new`;
  writeFileSync(fresh, text);
  renameSync(fresh, file);
}

/** @returns what became of the plugin's file, or what is wrong. */
function generateOne(
  loaded: LoadedPlugin,
  { out, prefix, check }: GenerateOptions,
): GeneratedFile | readonly string[] {
  if ("problem" in loaded) return [loaded.problem];
  const described = describePlugin(loaded.plugin, loaded.file, prefix);
  if ("problems" in described) return described.problems;
  const { name, plugin } = described;
  const file = path.join(out, "apisix", "plugins", `${name}.lua`);
  const text = luaFile(described);
  try {
    const old = textOf(file);
    if (old !== undefined && !isGenerated(old)) {
      return [`${file} was not written by this command, and is left alone: give another --out`];
    }
    const changed = old !== text;
    if (changed && !check) write(file, text);
    return { plugin, name, file, changed };
  } catch (error) {
    return [`${file} cannot be written (${(error as Error).message}): give another --out`];
  }
}

const RUNNERS =
  "it is written for APISIX's JavaScript runner, so it has no file: list it in ts-plugin-pre-req or " +
  "ts-plugin-post-req";

/** @param names of the plugins, or none for all that are in the folder. */
export async function generate(
  folder: PluginFolder,
  names: readonly string[],
  options: GenerateOptions,
): Promise<Report> {
  const report = {
    files: [] as GeneratedFile[],
    problems: [] as string[],
    warnings: [] as string[],
  };
  const wanted = names.length > 0 ? [...new Set(names)] : folder.names();
  for (const loaded of await folder.load(wanted)) {
    if ("plugin" in loaded && takesText(loaded.plugin)) {
      const told = names.length > 0 ? report.problems : report.warnings;
      told.push(`${loaded.file}: ${RUNNERS}`);
      continue;
    }
    const result = generateOne(loaded, options);
    if (!("changed" in result)) {
      report.problems.push(...result.map((problem) => `${loaded.file}: ${problem}`));
      continue;
    }
    report.files.push(result);
    if (isApisixOwn(result.name)) {
      report.warnings.push(
        `${result.file}: APISIX has a plugin ${result.name} of its own, and this one takes its ` +
          "place: --prefix ts- gives it another name",
      );
    }
  }
  return report;
}
