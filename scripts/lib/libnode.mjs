// Finds a shared libnode with its headers, or fetches Debian's into .deps/libnode, and says where in .deps/libnode.json.
// Debian's own packages cannot simply be installed: they conflict with NodeSource's nodejs. So they are unpacked, not installed.
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import * as apt from "./apt.mjs";
import { capture, Failure, inRoot, run } from "./run.mjs";

/**
 * uvLib is empty where libnode brings its own libuv; builtins are the files that Debian's libnode reads when it starts.
 * @typedef {{ abi: number, lib: string, includeDir: string, uvInclude: string, uvLib: string, builtins: string[] }} Libnode
 */

const RECORD = inRoot(".deps/libnode.json");
const PRIVATE = inRoot(".deps/libnode");
const HELP =
  "a libnode comes with Debian's and Ubuntu's libnode-dev, with Fedora's nodejs-devel, or from Node's ./configure --shared";

/** @param {string} includeDir */
function abiOf(includeDir) {
  const header = path.join(includeDir, "node_version.h");
  if (!existsSync(header)) return undefined;
  const match = /#define NODE_MODULE_VERSION (\d+)/.exec(readFileSync(header, "utf8"));
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

/** @param {string} prefix such as /usr @returns {Libnode | undefined} */
export function findBelow(prefix) {
  const includeDir = path.join(prefix, "include/node");
  const abi = abiOf(includeDir);
  if (abi === undefined) return undefined;
  const uvInclude = [path.join(prefix, "include"), includeDir].find((folder) =>
    existsSync(path.join(folder, "uv.h")),
  );
  const folders = ["lib", "lib64"].map((name) => path.join(prefix, name)).filter(existsSync);
  for (const folder of folders.flatMap((name) => [name, ...multiarchBelow(name)])) {
    const lib = path.join(folder, `libnode.so.${abi}`);
    if (uvInclude !== undefined && existsSync(lib)) {
      return { abi, lib, includeDir, uvInclude, uvLib: libuvOf(lib), builtins: [] };
    }
  }
  return undefined;
}

/** @param {string} folder */
function multiarchBelow(folder) {
  const names = readdirSync(folder).filter((name) => name.endsWith("-linux-gnu"));
  return names.map((name) => path.join(folder, name));
}

/** @param {string} lib */
function libuvOf(lib) {
  return /libuv\.so\.1 => (\/\S+)/.exec(capture("ldd", [lib]).stdout)?.[1] ?? "";
}

/** @param {string} lib */
function unresolved(lib) {
  return [...capture("ldd", [lib]).stdout.matchAll(/^\s*(\S+) => not found/gm)].map(
    (match) => match[1],
  );
}

/** What an earlier run found, if it is all still there. @returns {Libnode | undefined} */
export function recorded() {
  if (!existsSync(RECORD)) return undefined;
  try {
    const found = /** @type {Libnode} */ (JSON.parse(readFileSync(RECORD, "utf8")));
    const files = [found.lib, path.join(found.uvInclude, "uv.h"), ...found.builtins];
    return abiOf(found.includeDir) === found.abi && files.every((name) => existsSync(name))
      ? found
      : undefined;
  } catch {
    return undefined;
  }
}

/** The file appears whole or not at all: the build may be reading it. @param {Libnode} found */
function record(found) {
  mkdirSync(path.dirname(RECORD), { recursive: true });
  const text = `${JSON.stringify(found, null, 2)}\n`;
  if (existsSync(RECORD) && readFileSync(RECORD, "utf8") === text) return;
  writeFileSync(`${RECORD}.new`, text);
  renameSync(`${RECORD}.new`, RECORD);
}

/** Debian's package names have the ABI in them: libnode108, libnode115. */
function packageNames() {
  const library = apt.dependencies("libnode-dev").find((name) => /^libnode\d+$/.test(name));
  if (library === undefined) throw new Failure(`libnode-dev names no libnode here; ${HELP}`);
  const needed = apt.dependencies(library);
  return {
    library,
    builtins: needed.filter((name) => name.startsWith("node-")),
    system: needed.filter((name) => !name.startsWith("node-")),
  };
}

/** @param {string} name node-acorn */
const builtinFolder = (name) => `/usr/share/nodejs/${name.replace(/^node-/, "")}`;

/** Fetches and unpacks packages below a folder. @param {string[]} packages @param {string} target */
async function unpack(packages, target) {
  const folder = mkdtempSync(path.join(tmpdir(), "resty-ts-debs-"));
  try {
    await apt.download(packages, folder);
    for (const name of readdirSync(folder))
      await run("dpkg", ["-x", path.join(folder, name), target]);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function fetchPrivate() {
  if (!apt.hasApt) throw new Failure(`no libnode with headers found; ${HELP}`);
  if (!apt.isKnown("libnode-dev") && apt.isRoot) await apt.update();
  const names = packageNames();
  const builtins = names.builtins.filter((name) => !existsSync(builtinFolder(name)));
  const asPackages = builtins.length > 0 && apt.leavesNodeAlone(builtins);

  if (apt.isRoot) {
    const wanted = [...names.system, ...(asPackages ? builtins : [])].filter(
      (name) => !isInstalled(name),
    );
    if (wanted.length > 0) await apt.install(wanted);
    // Where their packages cannot live beside this machine's Node, their files still can: no other package has them.
    if (builtins.length > 0 && !asPackages) await unpack(builtins, "/");
  } else {
    const wanted = [...names.system, ...builtins].filter(
      (name) => !isInstalled(name) && !existsSync(builtinFolder(name)),
    );
    if (wanted.length > 0) throw new Failure(`as root: ${apt.installLine(wanted)}`);
  }

  const partial = `${PRIVATE}.new`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true });
  await unpack([names.library, "libnode-dev", "libuv1-dev"], partial);
  rmSync(PRIVATE, { recursive: true, force: true });
  renameSync(partial, PRIVATE);
  return names.builtins.map(builtinFolder);
}

/** @param {string} name */
function isInstalled(name) {
  return capture("dpkg-query", ["-W", "-f", "${db:Status-Status}", name]).stdout.startsWith(
    "installed",
  );
}

/** Packages that a plain user would have to ask root for, for the one line that the set-up prints. */
export function packagesForRoot() {
  if (
    recorded() !== undefined ||
    findInstalled() !== undefined ||
    !apt.hasApt ||
    !apt.isKnown("libnode-dev")
  )
    return [];
  const names = packageNames();
  const wanted = [
    ...names.system,
    ...names.builtins.filter((name) => !existsSync(builtinFolder(name))),
  ];
  return wanted.filter((name) => !isInstalled(name));
}

/** One that is installed on this machine, or in the folder that LIBNODE_PREFIX names. */
function findInstalled() {
  const prefix = process.env.LIBNODE_PREFIX;
  if (prefix !== undefined && prefix !== "") {
    const found = findBelow(realpathSync(prefix));
    if (found === undefined)
      throw new Failure(`LIBNODE_PREFIX: no lib/libnode.so.ABI with include/node below ${prefix}`);
    return found;
  }
  return findBelow("/usr") ?? findBelow("/usr/local");
}

/** @returns {Promise<Libnode>} */
export async function ensureLibnode() {
  const known = process.env.LIBNODE_PREFIX ? undefined : recorded();
  if (known !== undefined) return known;

  let found = findInstalled();
  if (found === undefined) {
    const builtins = await fetchPrivate();
    const unpacked = findBelow(path.join(PRIVATE, "usr"));
    if (unpacked === undefined)
      throw new Failure(`the unpacked packages hold no libnode with headers; ${HELP}`);
    found = { ...unpacked, builtins };
  }
  const lacking = unresolved(found.lib);
  if (lacking.length > 0)
    throw new Failure(`${found.lib} needs ${lacking.join(", ")}, which this machine lacks`);
  record(found);
  return found;
}
