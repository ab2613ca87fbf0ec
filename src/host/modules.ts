/**
 * Finds and loads the modules that Lua imports: .ts and .mts by way of compile.ts, .js, .mjs and
 * .cjs as they are; and newer versions of them, beside those that are in use.
 *
 * Thread: the environment's own. Invariant: nothing outside of the root is loaded by name,
 * neither by `..` nor through a symbolic link.
 */
import { realpath } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { settleWithin } from "../http/settle.js";
import { RestyTsError } from "../sdk/errors.js";
import { compile, CompileError, NoCompilerError, type Compiled } from "./compile.js";
import { messageOf } from "./describe.js";
import { evaluate } from "./evaluate.js";
import { importExternal, type Namespace } from "./externals.js";
import { KeptCompiled } from "./kept.js";
import { areFresh, type Stamps, stampsOf } from "./stamps.js";

export type { Namespace };

/** One version of a module. */
interface Loaded {
  readonly namespace: Namespace;
  readonly stamps: Stamps;
  /** Of what it was evaluated from; "" of what Node has loaded itself. */
  readonly text: string;
}

/** A newer version of a module, which nobody uses yet. */
export interface Newer {
  readonly namespace: Namespace;
  /** The one in use; undefined when it did not load. */
  readonly old: Namespace | undefined;
  /** Makes it the one that `load` gives. */
  readonly install: () => void;
}

const COMPILED = new Set([".ts", ".mts"]);
const PLAIN = new Set([".js", ".mjs", ".cjs"]);

/** The path of a module below root, both real paths. */
async function resolve(root: string, name: string): Promise<string> {
  const extension = path.extname(name);
  if (!COMPILED.has(extension) && !PLAIN.has(extension)) {
    throw new RestyTsError(
      "module_not_found",
      `${name}: a module's name ends in .ts, .mts, .js, .mjs or .cjs`,
    );
  }
  let realRoot: string;
  let file: string;
  try {
    realRoot = await realpath(root);
    file = await realpath(path.resolve(realRoot, name));
  } catch (error) {
    const text = `${name} in ${root} (${messageOf(error)})`;
    throw new RestyTsError("module_not_found", text, { cause: error });
  }
  if (!file.startsWith(realRoot.endsWith(path.sep) ? realRoot : realRoot + path.sep)) {
    throw new RestyTsError("module_not_found", `${name} leads out of ${root}`);
  }
  return file;
}

/** A SyntaxError does not say where it is, but esbuild does, where it is installed. */
async function describe(error: unknown, file: string): Promise<string> {
  if (error instanceof SyntaxError) {
    try {
      await compile(file);
    } catch (compileError) {
      if (compileError instanceof CompileError && !(compileError instanceof NoCompilerError)) {
        return `SyntaxError: ${compileError.message}`;
      }
    }
  }
  if (error instanceof CompileError) return error.message;
  return error instanceof Error ? `${error.name}: ${messageOf(error)}` : messageOf(error);
}

export class ModuleLoader {
  readonly #root: string;
  readonly #kept: KeptCompiled;
  readonly #builtIn: Readonly<Record<string, Namespace>>;
  readonly #settleMs: number | undefined;
  /** By their real paths: "./calc.ts" and "calc.ts" share one state. */
  readonly #modules = new Map<string, Promise<Loaded>>();
  /** Files that Node has loaded itself, or tried to. */
  readonly #given = new Set<string>();
  /** How often Node was given one of them again. */
  #again = 0;

  /**
   * @param root absolute path of the folder that modules are loaded from; "": none.
   * @param kept what was compiled before.
   * @param builtIn the host's own, which have no file.
   * @param settleMs how long a module's top level may wait; undefined: as long as it likes.
   */
  constructor(
    root: string,
    kept = new KeptCompiled([]),
    builtIn: Readonly<Record<string, Namespace>> = {},
    settleMs?: number,
  ) {
    this.#root = root;
    this.#kept = kept;
    this.#builtIn = builtIn;
    this.#settleMs = settleMs;
  }

  /** The host's own module of this name, which is there at once. */
  builtIn(name: string): Namespace | undefined {
    return Object.hasOwn(this.#builtIn, name) ? this.#builtIn[name] : undefined;
  }

  /**
   * Loads a module.
   * @param name path below the root, as given to ts.import.
   * @throws {RestyTsError} "module_not_found" or "module_failed", with the cause in words.
   */
  async load(name: string): Promise<Namespace> {
    const builtIn = this.builtIn(name);
    if (builtIn !== undefined) return builtIn;
    const file = await this.find(name);
    let loading = this.#modules.get(file);
    if (loading === undefined) {
      loading = this.#load(file, name);
      this.#modules.set(file, loading);
      loading.catch(() => undefined); // who waits for it is told
    }
    return (await loading).namespace;
  }

  /**
   * Loads a module anew if its files have changed, or if it did not load.
   * @returns undefined when there is nothing new.
   * @throws as `load`.
   */
  async newer(name: string): Promise<Newer | undefined> {
    if (this.builtIn(name) !== undefined) return undefined;
    const file = await this.find(name);
    const old = await this.#modules.get(file)?.catch(() => undefined);
    if (old !== undefined && areFresh(old.stamps)) return undefined;
    const loaded = await this.#load(file, name, old);
    const install = (): void => {
      this.#modules.set(file, Promise.resolve(loaded));
    };
    if (loaded !== old && loaded.namespace !== old?.namespace) {
      return { namespace: loaded.namespace, old: old?.namespace, install };
    }
    install();
    return undefined;
  }

  /** Has what did not load be loaded anew when it is asked for next. */
  async forgetFailures(): Promise<void> {
    for (const [file, loading] of [...this.#modules]) {
      await loading.catch(() => {
        if (this.#modules.get(file) === loading) this.#modules.delete(file);
      });
    }
  }

  /** All files that what is loaded was made of. */
  async files(): Promise<string[]> {
    const files: string[] = [];
    for (const [file, loading] of this.#modules) {
      const loaded = await loading.catch(() => undefined);
      files.push(...(loaded?.stamps.keys() ?? [file]));
    }
    return files;
  }

  /** A module's file, by which all its names are one. @throws {RestyTsError} "module_not_found". */
  async find(name: string): Promise<string> {
    if (this.#root === "") {
      throw new RestyTsError(
        "module_not_found",
        `${name}: ts.start was not told the folder, modules = "…"`,
      );
    }
    return resolve(this.#root, name);
  }

  async #load(file: string, name: string, old?: Loaded): Promise<Loaded> {
    try {
      return COMPILED.has(path.extname(file))
        ? await this.#loadCompiled(file, old)
        : await this.#loadPlain(file);
    } catch (error) {
      const text = `${name}: ${await describe(error, file)}`;
      throw new RestyTsError("module_failed", text, { cause: error });
    }
  }

  async #loadCompiled(file: string, old: Loaded | undefined): Promise<Loaded> {
    const kept = this.#kept.get(file);
    if (kept !== undefined) {
      const { compiled, stamps } = kept;
      return { namespace: await this.#evaluate(file, compiled), stamps, text: compiled.text };
    }
    const since = Date.now();
    const compiled: Compiled = await compile(file);
    const stamps = stampsOf(compiled.inputs, since);
    this.#kept.put(file, compiled, since);
    const { text } = compiled;
    if (text === old?.text) return { ...old, stamps };
    return { namespace: await this.#evaluate(file, compiled), stamps, text };
  }

  #evaluate(file: string, compiled: Compiled): Promise<Namespace> {
    return this.#limited(() => evaluate(file, compiled));
  }

  /** @throws what its top level throws; {RestyTsError} "handler_failed" at the limit. */
  #limited(run: () => Promise<Namespace>): Promise<Namespace> {
    // A process of its own ends, as Node does, when nothing can settle it any more.
    if (this.#settleMs === undefined) return run();
    return settleWithin("its top level", this.#settleMs, run, (work) => {
      work.catch((error: unknown) => {
        console.error("a module that was given up:", error);
      });
    });
  }

  async #loadPlain(file: string): Promise<Loaded> {
    const since = Date.now();
    let url = pathToFileURL(file).href;
    if (this.#given.has(file)) {
      // Node would give what it has.
      url += `?again=${++this.#again}`;
      // CommonJS is found by its path, whatever the URL.

      delete createRequire(file).cache[file];
    }
    this.#given.add(file);
    const namespace = await this.#limited(() => importExternal(url));
    return { namespace, stamps: stampsOf([file], since), text: "" };
  }
}

/** The export of this name; CommonJS exports that Node's lexer misses are on `default`. */
export function findFunction(namespace: Namespace, name: string): (...args: unknown[]) => unknown {
  const fallback = namespace.default as Namespace | null | undefined;
  for (const holder of [namespace, fallback]) {
    if (holder !== null && holder !== undefined && Object.hasOwn(holder, name)) {
      const value = holder[name];
      if (typeof value === "function") return value as (...args: unknown[]) => unknown;
    }
  }
  const names = Object.keys(namespace).filter((key) => typeof namespace[key] === "function");
  throw new RestyTsError(
    "function_not_found",
    `${name} is not among the exported functions (${names.join(", ") || "there are none"})`,
  );
}
