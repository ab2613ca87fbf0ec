// src/host/entry.ts → dist/host.cjs: one CommonJS file, because that is what node::LoadEnvironment's require can load.
// esbuild stays outside: it is a package with a binary of its own, found in node_modules at run time.
import { build } from "esbuild";
import { inRoot, isMain, script } from "./lib/run.mjs";

export async function bundleHost() {
  await build({
    absWorkingDir: inRoot(),
    entryPoints: ["src/host/entry.ts"],
    outfile: "dist/host.cjs",
    bundle: true,
    format: "cjs",
    platform: "node",
    target: "node18",
    external: ["esbuild"],
    // Names stay, for stacks; the rest is read by V8 at each start of a worker.
    minifyWhitespace: true,
    minifySyntax: true,
    sourcemap: "linked",
    logLevel: "warning",
    // ES modules have import.meta.url; CommonJS has not, and a host that needs its own place may use either.
    define: { "import.meta.url": "__rts_host_url" },
    banner: { js: 'const __rts_host_url = require("node:url").pathToFileURL(__filename).href;' },
  });
  // Apart, as most hosts never load it: src/host/platform.ts.
  await build({
    absWorkingDir: inRoot(),
    entryPoints: ["node_modules/undici/index.js"],
    outfile: "dist/undici.cjs",
    bundle: true,
    format: "cjs",
    platform: "node",
    target: "node18",
    minifyWhitespace: true,
    minifySyntax: true,
    logLevel: "warning",
  });
}

if (isMain(import.meta.url)) await script(bundleHost);
