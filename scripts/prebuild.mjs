// Builds what other machines run, into prebuilds/PLATFORM: the shared libraries, the addon for a stock node, the host.
//   npm run prebuild [-- --out DIR] [-- --libnode PREFIX]...
// A backend for the libnode of the set-up, and one for each PREFIX (lib/libnode.so.ABI, include/node). Nothing of a local
// build is used or touched. The same sources, compiler and Node make the same bytes, in whatever folder: no path of this
// machine, time or chance gets into them, which test/packaging/prebuild.test.ts holds this to.
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { linkLibnode } from "./build.mjs";
import { bundleHost } from "./bundle-host.mjs";
import { readElf } from "./lib/elf.mjs";
import { findBelow, recorded } from "./lib/libnode.mjs";
import { nodedir } from "./lib/nodedir.mjs";
import { platform } from "./lib/platform.mjs";
import { Failure, inRoot, isMain, isProgress, runQuietly, script } from "./lib/run.mjs";

/** @typedef {import("./lib/libnode.mjs").Libnode} Libnode */

const jobs = String(os.availableParallelism());
/** What the addon is made of, and with; the folder of a build has links to them. */
const ADDON_PARTS = ["binding.gyp", "package.json", "native", "node_modules"];

/** @param {Libnode[]} libnodes @param {string} scratch @param {string} target */
async function buildLibraries(libnodes, scratch, target) {
  for (const [index, libnode] of libnodes.entries()) {
    const folder = path.join(scratch, `cmake-${libnode.abi}`);
    const record = path.join(scratch, `libnode-${libnode.abi}.json`);
    writeFileSync(record, JSON.stringify(libnode));
    const options = {
      CMAKE_BUILD_TYPE: "Release",
      RTS_PREBUILT: "ON",
      RTS_OUTPUT: target,
      RTS_LIBNODE_FILE: record,
    };
    const defines = Object.entries(options).map(([name, value]) => `-D${name}=${value}`);
    await runQuietly("cmake", ["-G", "Unix Makefiles", "-S", inRoot(), "-B", folder, ...defines]);
    // The core is the same for all.
    const targets = [...(index === 0 ? ["resty_ts"] : []), `resty_ts_node${libnode.abi}`];
    await runQuietly("cmake", ["--build", folder, "--parallel", jobs, "--target", ...targets], {
      keep: isProgress,
    });
  }
}

/** @param {Libnode} libnode @param {string} scratch @param {string} target */
async function buildAddon(libnode, scratch, target) {
  const folder = path.join(scratch, "addon");
  mkdirSync(folder);
  for (const part of ADDON_PARTS) symlinkSync(realpathSync(inRoot(part)), path.join(folder, part));
  const flags = `-g0 -ffile-prefix-map=${inRoot()}=. -ffile-prefix-map=${folder}=.`;
  /** @type {NodeJS.ProcessEnv} */
  const env = {
    ...process.env,
    CFLAGS: flags,
    CXXFLAGS: flags,
    // Debian keeps uv.h elsewhere than Node's other headers.
    CPPFLAGS: `-idirafter ${libnode.uvInclude}`,
    npm_config_nodedir: nodedir(libnode),
  };
  const prebuildify = inRoot("node_modules/prebuildify/bin.js");
  const args = ["--napi", "--strip", "--name=resty_ts", `--cwd=${folder}`, `--out=${scratch}`];
  await runQuietly(process.execPath, [prebuildify, ...args], {
    env,
    cwd: folder,
    keep: isProgress,
  });
  const made = path.join(scratch, "prebuilds", `${os.platform()}-${os.arch()}`, "resty_ts.node");
  copyFileSync(made, path.join(target, "resty_ts.node"));
}

/** What users of the folder want to know of it without binutils. @param {string} folder @param {number[]} abis */
function manifest(folder, abis) {
  const { version } = JSON.parse(readFileSync(inRoot("package.json"), "utf8"));
  const files = readdirSync(folder).sort();
  const libraries = files.filter((name) => /\.(so|node)$/.test(name));
  const needs = libraries.map((name) => readElf(path.join(folder, name)).glibc ?? "0");
  const glibc = needs.sort((a, b) => a.localeCompare(b, "en", { numeric: true })).at(-1);
  const sums = files.map((name) => [
    name,
    createHash("sha256")
      .update(readFileSync(path.join(folder, name)))
      .digest("hex"),
  ]);
  return {
    version,
    platform,
    ...(platform.endsWith("-musl") ? {} : { glibc }),
    abis,
    sha256: Object.fromEntries(sums),
  };
}

/** @param {string} out @param {Libnode[]} libnodes */
async function prebuild(out, libnodes) {
  const [first] = libnodes;
  if (first === undefined)
    throw new Failure("no libnode: run `node scripts/setup.mjs`, or name one by --libnode");
  // node-gyp compares its own folder by the real name.
  const scratch = realpathSync(mkdtempSync(path.join(os.tmpdir(), "resty-ts-prebuild-")));
  try {
    const made = path.join(scratch, platform);
    mkdirSync(made);
    await buildLibraries(libnodes, scratch, made);
    await buildAddon(first, scratch, made);
    await bundleHost(made);
    for (const name of readdirSync(made)) chmodSync(path.join(made, name), 0o644);
    const abis = libnodes.map(({ abi }) => abi).sort((a, b) => a - b);
    const facts = manifest(made, abis);
    writeFileSync(path.join(made, "manifest.json"), `${JSON.stringify(facts, undefined, 2)}\n`);
    return place(made, path.join(out, platform));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** Puts a folder in the place of another: who looks finds one of them, whole. @param {string} made @param {string} target */
function place(made, target) {
  const beside = `${target}.new`;
  rmSync(beside, { recursive: true, force: true });
  mkdirSync(beside, { recursive: true });
  for (const name of readdirSync(made))
    copyFileSync(path.join(made, name), path.join(beside, name));
  rmSync(target, { recursive: true, force: true });
  renameSync(beside, target);
  return target;
}

if (isMain(import.meta.url)) {
  await script(async () => {
    const { values } = parseArgs({
      options: {
        out: { type: "string", default: inRoot("prebuilds") },
        libnode: { type: "string", multiple: true, default: [] },
      },
    });
    const named = values.libnode.map((prefix) => {
      const found = findBelow(path.resolve(prefix));
      if (found === undefined)
        throw new Failure(`${prefix} has no include/node with a lib/libnode.so.ABI`);
      return found;
    });
    const own = recorded();
    const byAbi = new Map(
      [...(own === undefined ? [] : [own]), ...named].map((one) => [one.abi, one]),
    );
    const folder = await prebuild(path.resolve(values.out), [...byAbi.values()]);
    // Lua takes these before the local build, in this project.
    if (path.dirname(folder) === inRoot("prebuilds")) linkLibnode(folder);
    console.log(folder);
  });
}
