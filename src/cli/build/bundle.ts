/**
 * One plugin with all that it imports as one file, which the host loads as it is: no package has to be
 * there but native ones, and no compiler.
 */
import * as esbuild from "esbuild";
import path from "node:path";
import { hostSdk, messageOfFailure } from "../../host/compile.js";
import { type FoundPackage, nativesStayPut } from "./natives.js";

export interface Bundled {
  /** Of `NAME.mjs`, and of its source map. */
  readonly code: Uint8Array;
  readonly map: Uint8Array;
  /** Native packages that it imports from where it is. */
  readonly natives: readonly FoundPackage[];
}

/** What modules of CommonJS expect. Names of ours, as theirs may be declared in the bundle. */
const HEAD =
  'import { createRequire as __restyTsCreateRequire } from "node:module"; ' +
  'import { fileURLToPath as __restyTsToPath } from "node:url"; ' +
  "const require = __restyTsCreateRequire(import.meta.url), " +
  '__restyTsFilename = __restyTsToPath(import.meta.url), ' +
  '__restyTsDirname = __restyTsToPath(new URL(".", import.meta.url));';

/** Enough for packages that bring packages that are native. */
const MOST_BUILDS = 8;

/**
 * @param file absolute path of the plugin's source.
 * @param target absolute path that the bundle will have: the source map's paths start there.
 * @throws {Error} with all that esbuild says, each `file:line:column: text`.
 */
export async function bundle(file: string, target: string): Promise<Bundled> {
  const folder = path.dirname(file);
  const natives = new Map<string, FoundPackage>();
  for (let build = 1; ; build++) {
    const known = new Set(natives.keys());
    natives.clear();
    const outputs = await run(file, target, nativesStayPut(natives, known)).catch(
      (error: unknown) => {
        const { errors } = error as Partial<esbuild.BuildFailure>;
        if (errors === undefined) throw error;
        throw new Error(messageOfFailure(error as esbuild.BuildFailure, folder), { cause: error });
      },
    );
    const isSettled = [...natives].every(([name, { isNative }]) => isNative || known.has(name));
    if (!isSettled && build < MOST_BUILDS) continue;
    return { ...outputs, natives: [...natives.values()] };
  }
}

async function run(
  file: string,
  target: string,
  natives: esbuild.Plugin,
): Promise<{ code: Uint8Array; map: Uint8Array }> {
  const { outputFiles } = await esbuild.build({
    entryPoints: [file],
    absWorkingDir: path.dirname(file),
    outfile: target,
    bundle: true,
    write: false,
    format: "esm",
    platform: "node",
    target: "node18",
    conditions: ["node"],
    sourcemap: "linked",
    legalComments: "inline",
    logLevel: "silent",
    define: { __filename: "__restyTsFilename", __dirname: "__restyTsDirname" },
    banner: { js: HEAD },
    plugins: [hostSdk, natives],
  });
  const ending = (text: string): Uint8Array =>
    outputFiles.find(({ path: name }) => name.endsWith(text))!.contents;
  return { code: ending(".mjs"), map: ending(".mjs.map") };
}
