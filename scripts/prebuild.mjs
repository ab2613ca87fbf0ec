// Builds what other machines run, into prebuilds/PLATFORM: the shared libraries, the addon for a stock node, the host.
//   npm run prebuild [-- --out DIR] [-- --libnode PREFIX]... [-- --libnode none] [-- --platform linux-arm64]
// A backend for the libnode of the set-up, and one for each PREFIX (lib/libnode.so.ABI, include/node). With none,
// as on Alpine, there is the process runtime only. For another platform by
// Debian's cross compilers, and for that platform's libnode of the same Debian. Nothing of a local
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
import { ensureCompilers, ensureForeign, findForeign } from "./lib/foreign.mjs";
import { findBelow, recorded } from "./lib/libnode.mjs";
import { nodedir } from "./lib/nodedir.mjs";
import { crossTo, platform } from "./lib/platform.mjs";
import { crossDefines } from "./lib/toolchains.mjs";
import { Failure, inRoot, isMain, isProgress, runQuietly, script } from "./lib/run.mjs";

/** @typedef {import("./lib/libnode.mjs").Libnode} Libnode */
/** @typedef {import("./lib/platform.mjs").Cross} Cross */

const jobs = String(os.availableParallelism());
/** What the addon is made of, and with; the folder of a build has links to them. */
const ADDON_PARTS = ["binding.gyp", "package.json", "native", "node_modules"];

/** What a build for this kind is made with. @param {Cross | undefined} cross */
function toolsFor(cross) {
  if (cross === undefined) return { defines: {}, env: {}, args: [] };
  const { arch, triplet } = cross;
  return {
    defines: crossDefines(cross),
    env: { CC: `${triplet}-gcc`, CXX: `${triplet}-g++` },
    args: [`--arch=${arch}`, `--strip-bin=${triplet}-strip`],
  };
}

/** @param {Libnode[]} libnodes @param {string} scratch @param {string} target @param {Cross} [cross] */
async function buildLibraries(libnodes, scratch, target, cross) {
  /** @param {string} name @param {Record<string, string>} more */
  const cmake = async (name, more) => {
    const folder = path.join(scratch, `cmake-${name}`);
    const options = {
      CMAKE_BUILD_TYPE: "Release",
      RTS_PREBUILT: "ON",
      RTS_OUTPUT: target,
      ...toolsFor(cross).defines,
      ...more,
    };
    const defines = Object.entries(options).map(([key, value]) => `-D${key}=${value}`);
    await runQuietly("cmake", ["-G", "Unix Makefiles", "-S", inRoot(), "-B", folder, ...defines]);
    const args = ["--build", folder, "--parallel", jobs, "--target", name];
    await runQuietly("cmake", args, { keep: isProgress });
  };
  await cmake("resty_ts", { RTS_BACKEND: "OFF" });
  for (const libnode of libnodes) {
    const record = path.join(scratch, `libnode-${libnode.abi}.json`);
    writeFileSync(record, JSON.stringify(libnode));
    await cmake(`resty_ts_node${libnode.abi}`, { RTS_LIBNODE_FILE: record });
  }
}

/** @param {Libnode | undefined} libnode @param {string} scratch @param {string} target @param {Cross} [cross] */
async function buildAddon(libnode, scratch, target, cross) {
  const folder = path.join(scratch, "addon");
  mkdirSync(folder);
  for (const part of ADDON_PARTS) symlinkSync(realpathSync(inRoot(part)), path.join(folder, part));
  const flags = `-g0 -ffile-prefix-map=${inRoot()}=. -ffile-prefix-map=${folder}=.`;
  const tools = toolsFor(cross);
  /** @type {NodeJS.ProcessEnv} */
  const env = {
    ...process.env,
    ...tools.env,
    CFLAGS: flags,
    CXXFLAGS: flags,
    // Debian keeps uv.h elsewhere than Node's other headers.
    ...(libnode === undefined ? {} : { CPPFLAGS: `-idirafter ${libnode.uvInclude}` }),
    npm_config_nodedir: nodedir(libnode, cross),
  };
  const prebuildify = inRoot("node_modules/prebuildify/bin.js");
  const args = ["--napi", "--strip", "--name=resty_ts", `--cwd=${folder}`, `--out=${scratch}`];
  await runQuietly(process.execPath, [prebuildify, ...args, ...tools.args], {
    env,
    cwd: folder,
    keep: isProgress,
  });
  const kind = `${os.platform()}-${cross?.arch ?? os.arch()}`;
  const made = path.join(scratch, "prebuilds", kind, "resty_ts.node");
  copyFileSync(made, path.join(target, "resty_ts.node"));
}

/** What users of the folder want to know of it without binutils. @param {string} folder @param {string} platform @param {number[]} abis */
function manifest(folder, platform, abis) {
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

/** @param {string} out @param {Libnode[]} libnodes @param {Cross} [cross] */
async function prebuild(out, libnodes, cross) {
  const kind = cross?.platform ?? platform;
  // node-gyp compares its own folder by the real name.
  const scratch = realpathSync(mkdtempSync(path.join(os.tmpdir(), "resty-ts-prebuild-")));
  try {
    const made = path.join(scratch, kind);
    mkdirSync(made);
    await buildLibraries(libnodes, scratch, made, cross);
    await buildAddon(libnodes[0], scratch, made, cross);
    await bundleHost(made);
    for (const name of readdirSync(made)) chmodSync(path.join(made, name), 0o644);
    const abis = libnodes.map(({ abi }) => abi).sort((a, b) => a - b);
    const facts = manifest(made, kind, abis);
    writeFileSync(path.join(made, "manifest.json"), `${JSON.stringify(facts, undefined, 2)}\n`);
    return place(made, path.join(out, kind));
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

/** @param {Cross} cross */
async function fetched(cross) {
  await ensureCompilers(cross);
  return findForeign(path.join(await ensureForeign(cross), "usr"));
}

/** Those to build for, one of each ABI. @param {string[]} prefixes @param {Cross} [cross] */
async function findLibnodes(prefixes, cross) {
  if (prefixes.includes("none")) {
    if (prefixes.length > 1 || cross !== undefined)
      throw new Failure("--libnode none goes with no other --libnode, and no --platform");
    return [];
  }
  const find = cross === undefined ? findBelow : findForeign;
  const named = prefixes.map((prefix) => {
    const found = find(path.resolve(prefix));
    if (found === undefined)
      throw new Failure(`${prefix} has no include/node with a lib/libnode.so.ABI`);
    return found;
  });
  const own = cross === undefined ? recorded() : await fetched(cross);
  const all = own === undefined ? named : [own, ...named];
  if (all.length === 0)
    throw new Failure(
      "no libnode: run `node scripts/setup.mjs`, or name one by --libnode; --libnode none builds for the process runtime only",
    );
  return [...new Map(all.map((one) => [one.abi, one])).values()];
}

if (isMain(import.meta.url)) {
  await script(async () => {
    const { values } = parseArgs({
      options: {
        out: { type: "string", default: inRoot("prebuilds") },
        libnode: { type: "string", multiple: true, default: [] },
        platform: { type: "string", default: platform },
      },
    });
    const cross = crossTo(values.platform);
    const libnodes = await findLibnodes(values.libnode, cross);
    const folder = await prebuild(path.resolve(values.out), libnodes, cross);
    // Lua takes these before the local build, in this project.
    if (cross === undefined && libnodes.length > 0 && path.dirname(folder) === inRoot("prebuilds"))
      linkLibnode(folder);
    console.log(folder);
  });
}
