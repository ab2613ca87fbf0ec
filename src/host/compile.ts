/**
 * TypeScript to a script that runs as if it stood where its source stands: esbuild bundles the files
 * that are imported by path; packages stay where they are, so native ones work.
 *
 * Thread: the environment's own; esbuild runs as a child process for the time of a build. Invariant:
 * no `import` statement is left in the script: Node keeps for ever what it has imported, and a script
 * only as long as something uses it. What it imports comes in by `imports`, see evaluate.ts.
 */
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type * as esbuild from "esbuild";
import { importExternal } from "./externals.js";
import { sdkModuleText } from "./sdk-module.js";

/** A module that does not compile; the message has file, line and what is wrong. */
export class CompileError extends Error {}

/** There is no esbuild. */
export class NoCompilerError extends CompileError {}

export interface Compiled {
  /** Made with HEAD and TAIL: evaluate.ts knows how it is run. */
  readonly text: string;
  /** What is to be imported before it runs: URLs and names of Node's own modules. */
  readonly imports: readonly string[];
  /** Absolute paths of the files that it was made of. */
  readonly inputs: readonly string[];
}

type Esbuild = typeof esbuild;

/** Beside the module first (a project's own version), then beside the host. */
function findEsbuild(file: string): Esbuild {
  for (const from of [file, import.meta.url]) {
    try {
      return createRequire(from)("esbuild") as Esbuild;
    } catch (error) {
      if ((error as { code?: unknown }).code !== "MODULE_NOT_FOUND") throw error;
    }
  }
  throw new NoCompilerError(
    `${file} is TypeScript and the npm package esbuild is neither beside it nor beside the host: ` +
      "install esbuild, or deploy compiled JavaScript",
  );
}

const RE_EXPORT = "external";
const GIVEN = "given";
const NAME = /^[\p{ID_Start}$_][\p{ID_Continue}$\u200c\u200d]*$/u;

/**
 * A package in the script: its real exports by name, so that one that is missing is found now, each
 * read from the real namespace when it is used, as an import is. `__esModule` on what is given: the
 * default is then the package's own, as in Node.
 * @param imports gets the URL of each.
 */
function packagesStayPut(imports: Set<string>, failures: unknown[]): esbuild.Plugin {
  const ours = {};
  return {
    name: "packages-stay-put",
    setup(build) {
      build.onResolve({ filter: /^[^./]/ }, async (args) => {
        if (args.namespace === RE_EXPORT) return { path: args.path, namespace: GIVEN };
        if (args.pluginData === ours || args.kind === "entry-point") return null;
        const found = await build.resolve(args.path, {
          kind: args.kind,
          importer: args.importer,
          resolveDir: args.resolveDir,
          pluginData: ours,
        });
        if (found.errors.length > 0) return { errors: found.errors };
        const isFile = !found.external && path.isAbsolute(found.path);
        if (args.kind === "import-statement") {
          // Data is bundled: how JSON is imported differs between Nodes.
          if (isFile && found.path.endsWith(".json")) return found;
          const url = isFile ? pathToFileURL(found.path).href : found.path;
          return { path: url, namespace: RE_EXPORT, sideEffects: true };
        }
        const isRequire = args.kind === "require-call" || args.kind === "require-resolve";
        return {
          path: isFile && !isRequire ? pathToFileURL(found.path).href : found.path,
          external: true,
        };
      });
      build.onLoad({ filter: /^/, namespace: RE_EXPORT }, async ({ path: url }) => {
        let names: string[];
        try {
          names = Object.keys(await importExternal(url)).filter((name) => NAME.test(name));
        } catch (error) {
          failures.push(error);
          return { errors: [{ text: `${url} does not load` }] };
        }
        imports.add(url);
        return { contents: `export { ${names.join(", ")} } from ${JSON.stringify(url)};\n` };
      });
      build.onLoad({ filter: /^/, namespace: GIVEN }, ({ path: url }) => ({
        contents: `module.exports = __restyTsImports[${JSON.stringify(url)}];`,
      }));
    },
  };
}

/** `resty-ts` is what the host provides. */
export const hostSdk: esbuild.Plugin = {
  name: "host-sdk",
  setup(build) {
    build.onResolve({ filter: /^resty-ts$/ }, ({ path: name }) => ({
      path: name,
      namespace: "resty-ts",
    }));
    build.onLoad({ filter: /^/, namespace: "resty-ts" }, () => ({ contents: sdkModuleText() }));
  },
};

/**
 * The script's first line and its last: a function that waits, as modules may. `module` and
 * `exports` are shadowed, as modules do not have them; but all that stems from the script holds on to
 * the script's Module, with which Node forgets its source map.
 */
const HEAD =
  "const __restyTsModule = module; module.exports = async function (__restyTsImports, " +
  "__restyTsMeta, __restyTsDone, require, __filename, __dirname, module, exports) { " +
  '"use strict"; (() => __restyTsModule);';
const TAIL = "};";

/** Sources by absolute URL: the script has another name. */
function inlineSourceMap(json: string, folder: string): string {
  const map = JSON.parse(json) as { sources: string[] };
  map.sources = map.sources.map((source) => pathToFileURL(path.resolve(folder, source)).href);
  const base64 = Buffer.from(JSON.stringify(map)).toString("base64");
  return `//# sourceMappingURL=data:application/json;base64,${base64}\n`;
}

/** esbuild's service process is one for all builds, and ends with the last of them. */
let users = 0;
const running = new Set<Esbuild>();

/** Has one service process serve all that `work` compiles: to start one takes longer than a build. */
export async function withCompiler<T>(work: () => Promise<T>): Promise<T> {
  users++;
  try {
    return await work();
  } finally {
    if (--users === 0) {
      const services = [...running];
      running.clear();
      await Promise.all(services.map((service) => service.stop()));
    }
  }
}

/** Each error as `file:line:column: text`. @param folder that esbuild's paths start in. */
export function messageOfFailure(failure: esbuild.BuildFailure, folder: string): string {
  return failure.errors
    .map(({ location, text }) =>
      location === null
        ? text
        : `${path.resolve(folder, location.file)}:${location.line}:${location.column + 1}: ${text}`,
    )
    .join("; ");
}

/**
 * @param file absolute path of a .ts or .mts file.
 * @throws {CompileError} with all messages, each `file:line:column: text`; what a package threw that
 * it imports.
 */
export async function compile(file: string): Promise<Compiled> {
  const esbuild = findEsbuild(file);
  const folder = path.dirname(file);
  const imports = new Set<string>();
  const failures: unknown[] = [];
  try {
    const result = await withCompiler(() => {
      running.add(esbuild);
      return esbuild.build({
        // The namespace as an object, with getters, in place of `export`.
        stdin: {
          contents: `import * as all from ${JSON.stringify(`./${path.basename(file)}`)};\n__restyTsDone(all);`,
          resolveDir: folder,
          sourcefile: "resty-ts:entry",
        },
        absWorkingDir: folder,
        bundle: true,
        write: false,
        metafile: true,
        format: "esm",
        platform: "node",
        target: `node${process.versions.node}`,
        // What Node's own resolution of `import` takes; esbuild adds "module" when not told.
        conditions: ["node"],
        outfile: `${file}.mjs`,
        sourcemap: "external",
        sourcesContent: false,
        logLevel: "silent",
        define: { "import.meta": "__restyTsMeta" },
        banner: { js: HEAD },
        footer: { js: TAIL },
        plugins: [hostSdk, packagesStayPut(imports, failures)],
      });
    });
    const text = (suffix: string) =>
      result.outputFiles.find((output) => output.path.endsWith(suffix))!.text;
    return {
      text: text(".mjs") + inlineSourceMap(text(".mjs.map"), folder),
      imports: [...imports],
      inputs: Object.keys(result.metafile.inputs)
        .filter((input) => !/^(<stdin>|resty-ts:|resty-ts:entry|external:|given:)/.test(input))
        .map((input) => path.resolve(folder, input)),
    };
  } catch (error) {
    const failure = error as Partial<esbuild.BuildFailure>;
    if (failure.errors === undefined) throw error;
    if (failures.length > 0) throw failures[0];
    throw new CompileError(messageOfFailure(failure as esbuild.BuildFailure, folder));
  }
}
