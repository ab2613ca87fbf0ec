/**
 * TypeScript to an ES module that runs as if it stood where its source stands: esbuild bundles
 * the files it imports by path and leaves packages where they are, so native ones work.
 *
 * Thread: the environment's own; esbuild runs as a child process for the time of a build.
 */
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";
import type * as esbuild from "esbuild";
import { sdkModuleText } from "./sdk-module.js";

/** A module that does not compile; the message has file, line and what is wrong. */
export class CompileError extends Error {}

/** There is no esbuild. */
export class NoCompilerError extends CompileError {}

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

/** Packages are imported by the absolute URL of what they resolve to from the importing file. */
const packagesStayPut: esbuild.Plugin = {
  name: "packages-stay-put",
  setup(build) {
    build.onResolve({ filter: /^[^./]/ }, async (args) => {
      if (args.pluginData === packagesStayPut || args.kind === "entry-point") return null;
      const found = await build.resolve(args.path, {
        kind: args.kind,
        importer: args.importer,
        resolveDir: args.resolveDir,
        pluginData: packagesStayPut,
      });
      if (found.errors.length > 0) return { errors: found.errors };
      if (found.external || !path.isAbsolute(found.path)) {
        return { path: found.path, external: true };
      }
      const isRequire = args.kind === "require-call" || args.kind === "require-resolve";
      return {
        path: isRequire ? found.path : pathToFileURL(found.path).href,
        external: true,
      };
    });
  },
};

const hostSdk: esbuild.Plugin = {
  name: "host-sdk",
  setup(build) {
    build.onResolve({ filter: /^resty-ts$/ }, ({ path: name }) => ({
      path: name,
      namespace: "resty-ts",
    }));
    build.onLoad({ filter: /^/, namespace: "resty-ts" }, () => ({ contents: sdkModuleText() }));
  },
};

/** Sources by absolute URL, as the module runs from another folder. */
function inlineSourceMap(json: string, folder: string): string {
  const map = JSON.parse(json) as { sources: string[] };
  map.sources = map.sources.map((source) => pathToFileURL(path.resolve(folder, source)).href);
  const base64 = Buffer.from(JSON.stringify(map)).toString("base64");
  return `//# sourceMappingURL=data:application/json;base64,${base64}\n`;
}

/** esbuild's service process is one for all builds, and ends with the last of them. */
let building = 0;

/**
 * @param file absolute path of a .ts or .mts file.
 * @returns the text of an ES module with an inline source map.
 * @throws {CompileError} with all messages, each `file:line:column: text`.
 */
export async function compile(file: string): Promise<string> {
  const { build, stop } = findEsbuild(file);
  const url = JSON.stringify(pathToFileURL(file).href);
  building++;
  try {
    const result = await build({
      entryPoints: [file],
      absWorkingDir: path.dirname(file),
      bundle: true,
      write: false,
      format: "esm",
      platform: "node",
      target: `node${process.versions.node}`,
      // What Node's own resolution of `import` takes; esbuild adds "module" when not told.
      conditions: ["node"],
      outfile: `${file}.mjs`,
      sourcemap: "external",
      sourcesContent: false,
      logLevel: "silent",
      define: {
        "import.meta.url": "__restyTsUrl",
        "import.meta.filename": "__filename",
        "import.meta.dirname": "__dirname",
      },
      banner: {
        js:
          'import { createRequire as __restyTsCreateRequire } from "node:module";' +
          'import { fileURLToPath as __restyTsPath } from "node:url";' +
          'import { dirname as __restyTsDirname } from "node:path";' +
          `const __restyTsUrl = ${url}, require = __restyTsCreateRequire(__restyTsUrl),` +
          " __filename = __restyTsPath(__restyTsUrl), __dirname = __restyTsDirname(__filename);",
      },
      plugins: [hostSdk, packagesStayPut],
    });
    const text = (suffix: string) =>
      result.outputFiles.find((output) => output.path.endsWith(suffix))!.text;
    return text(".mjs") + inlineSourceMap(text(".mjs.map"), path.dirname(file));
  } catch (error) {
    const errors = (error as Partial<esbuild.BuildFailure>).errors;
    if (errors === undefined) throw error;
    throw new CompileError(
      errors
        .map(({ location, text }) =>
          location === null
            ? text
            : `${path.resolve(path.dirname(file), location.file)}:${location.line}:${location.column + 1}: ${text}`,
        )
        .join("; "),
    );
  } finally {
    if (--building === 0) await stop();
  }
}
