/**
 * A folder of plugins out of nginx: which are there, and what each file exports, by the host's own
 * loader.
 *
 * Thread: the process's main one. Invariant: what a plugin does while it is loaded (print, exit, hang)
 * neither passes for a result of the command nor ends it in silence.
 */
import { readdirSync, realpathSync, statSync } from "node:fs";
import { Console } from "node:console";
import { webcrypto } from "node:crypto";
import path from "node:path";
import { withCompiler } from "../host/compile.js";
import { messageOf } from "../host/describe.js";
import { ModuleLoader } from "../host/modules.js";
import { PluginLoader } from "../host/plugins.js";
import { provideSdk } from "../host/sdk-module.js";
import { isPluginName } from "../http/definition.js";
import type { Plugin } from "../sdk/plugin.js";
import { ExitCode, UsageError } from "./exit.js";

/** As src/host/plugins.ts has them. */
const ENDINGS = [".ts", ".mts", ".js", ".mjs", ".cjs"];
/** For one plugin; who waits for a network while it is loaded would hold up each start of nginx. */
const MOST_LOAD_MS = 30_000;

/** What has become of one plugin. */
export type LoadedPlugin = {
  readonly name: string;
  /** Its file below the folder; its name where none was found. */
  readonly file: string;
} & ({ readonly plugin: Plugin } | { readonly problem: string });

function isFolder(file: string): boolean {
  return statSync(file, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** Names of a folder's entries that can be plugins, sorted. @throws {UsageError} */
function namesIn(folder: string): string[] {
  const names = new Set<string>();
  for (const entry of readdirSync(folder)) {
    const ending = path.extname(entry);
    const file = path.join(folder, entry);
    if (ENDINGS.includes(ending) && !isFolder(file)) names.add(path.basename(entry, ending));
    else if (isFolder(file) && ENDINGS.some((each) => readdirSync(file).includes(`index${each}`))) {
      names.add(entry);
    }
  }
  return [...names].filter(isPluginName).sort();
}

/** A plugin that prints while it is loaded must not print into the command's result. */
function consoleToStderr(): void {
  globalThis.console = new Console({ stdout: process.stderr, stderr: process.stderr });
}

async function withDeadline<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const text = `it was not loaded within ${MOST_LOAD_MS / 1000} s: what does its top level wait for?`;
      reject(new Error(text));
    }, MOST_LOAD_MS).unref();
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

export class PluginFolder {
  readonly #folder: string;
  #loading: string | undefined;

  /** @throws {UsageError} when there is no such folder. */
  constructor(folder: string) {
    if (!isFolder(folder)) throw new UsageError(`${folder} is no folder: --plugins is one`);
    this.#folder = realpathSync(folder);
    provideSdk();
    consoleToStderr();
    // Node 18 has none; the host brings it, too.
    (globalThis as { crypto?: unknown }).crypto ??= webcrypto;
    process.once("exit", () => {
      if (this.#loading === undefined) return;
      process.exitCode = ExitCode.wrong;
      process.stderr.write(
        `error: ${this.#loading}: it ended the process while it was loaded, or waits for what never ` +
          "comes: its top level runs here as in nginx, and must come to its end\n",
      );
    });
  }

  /** Its real path. */
  get path(): string {
    return this.#folder;
  }

  /** The plugins that are there. @throws {UsageError} when there is none. */
  names(): string[] {
    const names = namesIn(this.#folder);
    if (names.length === 0) {
      throw new UsageError(
        `there is no plugin in ${this.#folder}: one is a file NAME${ENDINGS.join(", ")}, ` +
          "or a folder with such an index",
      );
    }
    return names;
  }

  /** Loads one after the other, so that it is known whose top level does what. */
  async load(names: readonly string[]): Promise<LoadedPlugin[]> {
    return withCompiler(async () => {
      const loaded: LoadedPlugin[] = [];
      for (const name of names) loaded.push(await this.#load(name));
      return loaded;
    });
  }

  async #load(name: string): Promise<LoadedPlugin> {
    // Of its own: that tells which files are this plugin's.
    const loader = new PluginLoader(this.#folder, new ModuleLoader(this.#folder));
    this.#loading = name;
    try {
      const plugin = await withDeadline(loader.load(name));
      return { name, file: await this.#fileOf(loader, name), plugin };
    } catch (error) {
      return { name, file: await this.#fileOf(loader, name), problem: messageOf(error) };
    } finally {
      this.#loading = undefined;
    }
  }

  async #fileOf(loader: PluginLoader, name: string): Promise<string> {
    const files = await withDeadline(loader.files()).catch(() => []);
    const relative = files.map((file) => path.relative(this.#folder, file));
    const isOwn = (file: string): boolean =>
      [name, path.join(name, "index")].includes(file.slice(0, -path.extname(file).length));
    return relative.find(isOwn) ?? name;
  }
}
