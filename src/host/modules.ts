/**
 * Finds and loads the modules that Lua imports: .ts and .mts by way of compile.ts, .js, .mjs and
 * .cjs as they are.
 *
 * Thread: the environment's own. Invariant: nothing outside of the root is loaded by name,
 * neither by `..` nor through a symbolic link.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { realpath } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { RestyTsError } from "../sdk/errors.js";
import { compile, CompileError, NoCompilerError } from "./compile.js";
import { messageOf } from "./describe.js";

export type Namespace = Record<string, unknown>;

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

/**
 * Where compiled modules lie while Node reads them: a folder that only we can read. It is there
 * while something loads, and goes with the environment when that ends in the middle.
 */
export class Workshop {
  readonly #removeAtEnd: (folder: string) => void;
  #folder: string | undefined;
  #users = 0;
  #count = 0;

  /** @param removeAtEnd native/addon's: removes a folder when the environment ends. */
  constructor(removeAtEnd: (folder: string) => void) {
    this.#removeAtEnd = removeAtEnd;
  }

  async import(file: string, text: string): Promise<Namespace> {
    this.#users++;
    try {
      // Not awaited between: the environment may end at each await.
      if (this.#folder === undefined) {
        this.#folder = mkdtempSync(path.join(tmpdir(), "resty-ts-module-"));
        this.#removeAtEnd(this.#folder);
      }
      const target = path.join(this.#folder, `${this.#count++}-${path.basename(file)}.mjs`);
      writeFileSync(target, text);
      return (await import(pathToFileURL(target).href)) as Namespace;
    } finally {
      if (--this.#users === 0 && this.#folder !== undefined) {
        rmSync(this.#folder, { recursive: true, force: true });
        this.#folder = undefined;
      }
    }
  }
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
  readonly #workshop: Workshop;
  readonly #builtIn: Readonly<Record<string, Namespace>>;
  readonly #modules = new Map<string, Promise<Namespace>>();

  /**
   * @param root absolute path of the folder that modules are loaded from; "": none.
   * @param builtIn the host's own, which have no file.
   */
  constructor(root: string, workshop: Workshop, builtIn: Record<string, Namespace> = {}) {
    this.#root = root;
    this.#workshop = workshop;
    this.#builtIn = builtIn;
  }

  isBuiltIn(name: string): boolean {
    return Object.hasOwn(this.#builtIn, name);
  }

  /**
   * Loads a module.
   * @param name path below the root, as given to ts.import.
   * @throws {RestyTsError} "module_not_found" or "module_failed", with the cause in words.
   */
  async load(name: string): Promise<Namespace> {
    const builtIn = this.#builtIn[name];
    if (builtIn !== undefined && this.isBuiltIn(name)) return builtIn;
    if (this.#root === "") {
      throw new RestyTsError(
        "module_not_found",
        `${name}: ts.start was not told the folder, modules = "…"`,
      );
    }
    const file = await resolve(this.#root, name);
    // By its real path: "./calc.ts" and "calc.ts" share one state.
    let loading = this.#modules.get(file);
    if (loading === undefined) {
      loading = this.#load(file);
      this.#modules.set(file, loading);
    }
    try {
      return await loading;
    } catch (error) {
      const text = `${name}: ${await describe(error, file)}`;
      throw new RestyTsError("module_failed", text, { cause: error });
    }
  }

  async #load(file: string): Promise<Namespace> {
    return COMPILED.has(path.extname(file))
      ? this.#workshop.import(file, await compile(file))
      : ((await import(pathToFileURL(file).href)) as Namespace);
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
