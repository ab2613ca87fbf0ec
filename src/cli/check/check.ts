/**
 * `resty-ts check`: all that can be known of plugins and their configurations without nginx.
 *
 * Invariant: one problem hides no other, but for those of a plugin that does not load, and types while
 * a file is no TypeScript.
 */
import path from "node:path";
import { configProblems } from "../../http/config.js";
import type { Plugin } from "../../sdk/plugin.js";
import { isApisixOwn } from "../apisix/names.js";
import type { LoadedPlugin, PluginFolder } from "../plugin-files.js";
import { shownPath } from "../project.js";
import { type Configuration, configurationsIn, readDocuments } from "./configurations.js";
import { checkTypes } from "./types.js";

export interface CheckOptions {
  /** Files with configurations. */
  readonly conf: readonly string[];
  /** Before each plugin's name in them. */
  readonly prefix: string;
  /** Whether to check types. */
  readonly types: boolean;
}

export interface CheckReport {
  readonly plugins: readonly { readonly name: string; readonly file: string }[];
  /** How many configurations were looked at. */
  readonly configurations: number;
  readonly typesChecked: boolean;
  /** Each `file: what is wrong, and the cure`. */
  readonly problems: readonly string[];
  readonly warnings: readonly string[];
}

/** Each configuration of a file, with where it stands. @returns its problem when it is no such file. */
function readConfigurations(file: string): Configuration[] | string {
  let documents: unknown[];
  try {
    documents = readDocuments(file);
  } catch (error) {
    if (error instanceof Error && error.constructor === Error) return error.message;
    throw error;
  }
  return documents.flatMap(configurationsIn);
}

/** The plugins of a run, and what is known of configurations by them. */
class Configurations {
  count = 0;
  readonly problems: string[] = [];
  readonly #plugins = new Map<string, Plugin | undefined>();
  readonly #known: readonly string[];
  readonly #prefix: string;

  constructor(loaded: readonly LoadedPlugin[], known: readonly string[], prefix: string) {
    for (const each of loaded) {
      this.#plugins.set(each.name, "plugin" in each ? each.plugin : undefined);
    }
    this.#known = known;
    this.#prefix = prefix;
  }

  async check(file: string): Promise<void> {
    const found = readConfigurations(file);
    if (typeof found === "string") {
      this.problems.push(found);
      return;
    }
    if (found.length === 0) {
      this.problems.push(
        `${file}: no plugin's configuration is in it: a map from names to configurations is one, a ` +
          "list of { name, conf }, or such below `plugins`",
      );
    }
    for (const each of found) await this.#checkOne(file, each);
  }

  async #checkOne(file: string, { path: where, name, value, mixed }: Configuration): Promise<void> {
    const own = name.startsWith(this.#prefix) ? name.slice(this.#prefix.length) : undefined;
    if (own === undefined || !this.#known.includes(own)) {
      if (mixed && isApisixOwn(name)) return;
      this.problems.push(
        `${file}: ${where}: there is no plugin ${name} (${this.#known.join(", ")})` +
          (this.#prefix === "" ? "" : `; their names begin with ${this.#prefix}`),
      );
      return;
    }
    const plugin = this.#plugins.get(own);
    // Another's than those that were named, or it did not load.
    if (plugin === undefined) return;
    this.count++;
    for (const problem of await configProblems(plugin, ownOptions(value, mixed))) {
      this.problems.push(`${file}: ${where}: ${problem}`);
    }
  }
}

/** Without APISIX's own part of a plugin's configuration. */
function ownOptions(value: unknown, mixed: boolean): unknown {
  if (!mixed || typeof value !== "object" || value === null || !("_meta" in value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([key]) => key !== "_meta"));
}

/** @param names of the plugins, or none for all that are in the folder. */
export async function check(
  folder: PluginFolder,
  names: readonly string[],
  { conf, prefix, types: wantsTypes }: CheckOptions,
): Promise<CheckReport> {
  const known = folder.names();
  const loaded = await folder.load(names.length > 0 ? [...new Set(names)] : known);
  const fileOf = ({ file }: LoadedPlugin): string => path.join(folder.path, file);
  const found = loaded.filter(({ file }) => path.extname(file) !== "");
  const types = wantsTypes
    ? await checkTypes(folder.path, found.map(fileOf))
    : { checked: false, problems: [], warnings: [] };
  const configurations = new Configurations(loaded, known, prefix);
  for (const file of conf) await configurations.check(file);
  return {
    plugins: loaded
      .filter((each) => "plugin" in each)
      .map((each) => ({ name: each.name, file: shownPath(fileOf(each)) })),
    configurations: configurations.count,
    typesChecked: types.checked,
    problems: [
      ...loaded
        .filter((each) => "problem" in each)
        .map((each) => `${shownPath(fileOf(each))}: ${each.problem}`),
      ...types.problems,
      ...configurations.problems,
    ],
    warnings: types.warnings,
  };
}
