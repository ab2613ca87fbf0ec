/**
 * Plugins by their names: one file each, or a folder with an index, below the folder `plugins` of
 * ts.start.
 *
 * Thread: the environment's own.
 */
import { readdir } from "node:fs/promises";
import path from "node:path";
import { checkDefinition, isPluginName } from "../http/definition.js";
import { RestyTsError } from "../sdk/errors.js";
import type { Plugin } from "../sdk/plugin.js";
import { withCompiler } from "./compile.js";
import { messageOf } from "./describe.js";
import type { Logger } from "./log.js";
import type { ModuleLoader, Namespace } from "./modules.js";

const ENDINGS = [".ts", ".mts", ".js", ".mjs", ".cjs"];

/** @throws {RestyTsError} bad_plugin. */
function pluginOf(namespace: Namespace, name: string): Plugin {
  let exported = namespace["default"];
  // CommonJS compiled from an ES module.
  const inner = exported as { __esModule?: unknown; default?: unknown } | null | undefined;
  if (inner?.__esModule === true) exported = inner.default;
  return checkDefinition(exported, name);
}

export class PluginLoader {
  readonly #folder: string;
  readonly #modules: ModuleLoader;
  readonly #plugins = new Map<string, Promise<Plugin>>();

  /** @param folder absolute; "": none. @param modules loads from this folder. */
  constructor(folder: string, modules: ModuleLoader) {
    this.#folder = folder;
    this.#modules = modules;
  }

  /** @throws {RestyTsError} module_not_found, module_failed, bad_plugin. */
  load(name: string): Promise<Plugin> {
    let plugin = this.#plugins.get(name);
    if (plugin === undefined) {
      plugin = this.#load(name);
      this.#plugins.set(name, plugin);
      // The file may be there, or be right, the next time.
      plugin.catch(() => this.#plugins.delete(name));
    }
    return plugin;
  }

  /**
   * The plugins that are loaded, by name. One that did not load is tried again when it is named next:
   * nothing older of it is in use.
   */
  async loaded(): Promise<Map<string, Plugin>> {
    const loaded = new Map<string, Plugin>();
    for (const [name, loading] of this.#plugins) {
      const plugin = await loading.catch(() => undefined);
      if (plugin !== undefined) loaded.set(name, plugin);
    }
    await this.#modules.forgetFailures();
    return loaded;
  }

  /**
   * Loads a plugin anew if its files have changed; `install` makes it the one that `load` gives.
   * @throws as `load`.
   */
  async newer(name: string): Promise<{ plugin: Plugin; install: () => void } | undefined> {
    const newer = await this.#modules.newer(await this.#find(name));
    if (newer === undefined) return undefined;
    const plugin = pluginOf(newer.namespace, name);
    const install = (): void => {
      newer.install();
      this.#plugins.set(name, Promise.resolve(plugin));
    };
    return { plugin, install };
  }

  /** All files that plugins were made of. */
  files(): Promise<string[]> {
    return this.#modules.files();
  }

  /**
   * Loads all that is there before the first request wants it. What is no plugin, or does not load,
   * is told to whoever names it.
   */
  async preload(logger: Logger): Promise<void> {
    const entries = await readdir(this.#folder, { withFileTypes: true }).catch(() => []);
    const names = entries
      .filter((entry) => entry.isDirectory() || ENDINGS.includes(path.extname(entry.name)))
      .map((entry) => path.basename(entry.name, path.extname(entry.name)))
      .filter(isPluginName);
    await withCompiler(() =>
      Promise.all(
        [...new Set(names)].map((name) =>
          this.load(name).catch((error: unknown) => {
            logger.write("info", `${name} was not loaded ahead: ${messageOf(error)}`);
          }),
        ),
      ),
    );
  }

  async #load(name: string): Promise<Plugin> {
    if (!isPluginName(name)) {
      throw new RestyTsError(
        "module_not_found",
        `${JSON.stringify(name)} is no plugin's name: lower case letters, digits, "-" and "_"`,
      );
    }
    const file = await this.#find(name);
    return pluginOf(await this.#modules.load(file), name);
  }

  /** The file's path below the folder. */
  async #find(name: string): Promise<string> {
    if (this.#folder === "") {
      throw new RestyTsError(
        "module_not_found",
        `plugin ${name}: ts.start was not told the folder, plugins = "…"`,
      );
    }
    const list = async (folder: string): Promise<string[]> => {
      try {
        return await readdir(folder);
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (folder !== this.#folder && (code === "ENOENT" || code === "ENOTDIR")) return [];
        throw new RestyTsError("module_not_found", `plugins: ${messageOf(error)}`, {
          cause: error,
        });
      }
    };
    const files = await list(this.#folder);
    const found = ENDINGS.map((ending) => name + ending).find((file) => files.includes(file));
    if (found !== undefined) return found;
    const inFolder = files.includes(name) ? await list(path.join(this.#folder, name)) : [];
    const index = ENDINGS.map((ending) => `index${ending}`).find((file) => inFolder.includes(file));
    if (index !== undefined) return path.join(name, index);
    const known = files
      .filter((file) => ENDINGS.includes(path.extname(file)))
      .map((file) => path.basename(file, path.extname(file)));
    throw new RestyTsError(
      "module_not_found",
      `there is no plugin ${name} in ${this.#folder} (${known.join(", ") || "no plugin is there"})`,
    );
  }
}
