// src/host/entry.ts → dist/host.cjs: one CommonJS file, because that is what node::LoadEnvironment's require can load.
// esbuild stays outside: it is a package with a binary of its own, found in node_modules at run time.
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { build } from "esbuild";
import { inRoot, isMain, script } from "./lib/run.mjs";

/** @param {import("esbuild").BuildResult} result @param {string} folder */
function write(result, folder) {
  mkdirSync(folder, { recursive: true });
  for (const file of result.outputFiles ?? []) {
    writeFileSync(path.join(folder, path.basename(file.path)), file.contents);
  }
}

/** @param {string} [folder] gets host.cjs with its source map, and undici.cjs */
export async function bundleHost(folder = inRoot("dist")) {
  /** @type {import("esbuild").BuildOptions} */
  const options = {
    absWorkingDir: inRoot(),
    // For all folders: the source map has paths relative to it.
    outdir: "dist",
    outExtension: { ".js": ".cjs" },
    write: false,
    bundle: true,
    format: "cjs",
    platform: "node",
    target: "node18",
    // Names stay, for stacks; the rest is read by V8 at each start of a worker.
    minifyWhitespace: true,
    minifySyntax: true,
    logLevel: "warning",
  };
  const host = await build({
    ...options,
    entryPoints: { host: "src/host/entry.ts" },
    external: ["esbuild"],
    sourcemap: "linked",
    // ES modules have import.meta.url; CommonJS has not, and a host that needs its own place may use either.
    define: { "import.meta.url": "__rts_host_url" },
    banner: { js: 'const __rts_host_url = require("node:url").pathToFileURL(__filename).href;' },
  });
  // Apart, as most hosts never load it: src/host/platform.ts.
  const undici = await build({
    ...options,
    entryPoints: { undici: "node_modules/undici/index.js" },
  });
  write(host, folder);
  write(undici, folder);
}

if (isMain(import.meta.url)) await script(() => bundleHost());
