// Builds what is out of date: the shared libraries (cmake-js), the .node addon (node-gyp), the host (esbuild) and dist (tsc).
//   node scripts/build.mjs [native] [addon] [host] [dist]      all of them when none is named
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { recorded } from "./lib/libnode.mjs";
import { stalePrebuilds } from "./lib/prebuilds.mjs";
import { nodedir } from "./lib/nodedir.mjs";
import {
  exists,
  Failure,
  inRoot,
  isMain,
  isProgress,
  modified,
  runQuietly,
  script,
} from "./lib/run.mjs";

const NO_LIBNODE = "no libnode: run `node scripts/setup.mjs` first";
const node = process.execPath;
const jobs = String(os.availableParallelism());

/**
 * A symlink libnode/libnode.so.ABI beside the libraries, where the core looks first, when the libnode is not the system's.
 * @param {string} libraries their folder
 */
export function linkLibnode(libraries) {
  const found = recorded();
  if (found === undefined) throw new Failure(NO_LIBNODE);
  const folder = path.join(libraries, "libnode");
  if (!found.lib.startsWith(inRoot(".deps")))
    return rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const name = path.basename(found.lib);
  const link = path.join(folder, name);
  const target = path.relative(folder, found.lib);
  for (const other of readdirSync(folder)) if (other !== name) rmSync(path.join(folder, other));
  if (exists(link) && readlinkSync(link) === target) return;
  rmSync(link, { force: true });
  symlinkSync(target, link);
}

async function buildNative() {
  const found = recorded();
  if (found === undefined) throw new Failure(NO_LIBNODE);
  // cmake-js downloads Node's headers unless this says where some are. Ours come from .deps/libnode.json in any case.
  const nodedir = path.resolve(found.includeDir, "../..");
  await cmake("build-cmake", { RTS_WERROR: process.env.CI ? "ON" : "OFF" }, nodedir);
  linkLibnode(inRoot("build/Release"));
}

/**
 * Configures when there is no cache or an option changed, then builds.
 * @param {string} out @param {Record<string, string>} options @param {string} nodedir
 */
async function cmake(out, options, nodedir) {
  const cache = inRoot(out, "CMakeCache.txt");
  const text = existsSync(cache) ? readFileSync(cache, "utf8") : "";
  const settled =
    existsSync(inRoot(out, "Makefile")) &&
    text.includes(`CMAKE_HOME_DIRECTORY:INTERNAL=${inRoot()}\n`) &&
    Object.entries(options).every(([name, value]) =>
      new RegExp(`^${name}:\\w+=${value}$`, "m").test(text),
    );
  const env = { ...process.env, npm_config_nodedir: nodedir };
  const args = [
    inRoot("node_modules/cmake-js/bin/cmake-js"),
    "--log-level",
    "error",
    "--prefer-make",
    "--out",
    inRoot(out),
  ];
  const defines = Object.entries(options).map(([name, value]) => `--CD${name}=${value}`);
  if (!settled) {
    rmSync(inRoot(out), { recursive: true, force: true });
    await runQuietly(node, [...args, ...defines, "configure"], { env });
  }
  await runQuietly(node, [...args, "--parallel", jobs, "build"], { env, keep: isProgress });
}

async function buildAddon() {
  const libnode = recorded();
  if (libnode === undefined) throw new Failure(NO_LIBNODE);
  const gyp = inRoot("node_modules/node-gyp/bin/node-gyp.js");
  const prefix = nodedir(libnode);
  const args = ["--loglevel=error", ...(prefix === undefined ? [] : [`--nodedir=${prefix}`])];
  const configured = modified(inRoot("build/config.gypi"));
  const stale = [inRoot("binding.gyp"), inRoot("native/sources.json"), node].some(
    (name) => modified(name) > configured,
  );
  if (stale || !existsSync(inRoot("build/Makefile"))) {
    await runQuietly(node, [gyp, "configure", ...args]);
  }
  // Debian keeps uv.h elsewhere than Node's other headers.
  const flags = `${process.env.CPPFLAGS ?? ""} -idirafter ${libnode.uvInclude}`;
  const env = { ...process.env, CPPFLAGS: flags.trim() };
  await runQuietly(node, [gyp, "build", "--jobs", jobs, ...args], { env, keep: isProgress });
}

async function buildHost() {
  const { bundleHost } = await import("./bundle-host.mjs");
  await bundleHost();
}

async function buildDist() {
  await runQuietly(node, [
    inRoot("node_modules/typescript/bin/tsc"),
    "-p",
    inRoot("tsconfig.build.json"),
  ]);
}

const steps = { native: buildNative, addon: buildAddon, host: buildHost, dist: buildDist };

/** @typedef {keyof typeof steps} Step */
/** @param {Step[]} [names] */
export async function build(names = ["native", "addon", "host", "dist"]) {
  for (const name of names) await steps[name]();
  const stale = stalePrebuilds();
  if (stale !== undefined) throw new Failure(stale);
}

if (isMain(import.meta.url)) {
  await script(async () => {
    const names = process.argv.slice(2);
    const unknown = names.find((name) => !(name in steps));
    if (unknown !== undefined) throw new Failure(`${unknown}: ${Object.keys(steps).join(", ")}`);
    await build(names.length === 0 ? undefined : /** @type {Step[]} */ (names));
  });
}
