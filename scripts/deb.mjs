// Makes the Debian package lua-resty-ts of what `npm run prebuild` has built, into build-deb/.
//   npm run deb [-- --libraries DIR] [-- --out DIR]
// The files lie in lua-resty-ts/ of /usr/lib/TRIPLET and of /usr/share. LuaJIT's own package.cpath leads to
// /usr/lib/TRIPLET/lua/5.1, which has links to them: nginx needs no path at all. The same input makes the same bytes: all
// times are SOURCE_DATE_EPOCH, else that of the last commit.
import { createHash } from "node:crypto";
import {
  chmodSync,
  copyFileSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import os from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { gzipSync } from "node:zlib";
import { filesBelow } from "./lib/files.mjs";
import { platform } from "./lib/platform.mjs";
import { capture, exists, Failure, inRoot, runQuietly, script } from "./lib/run.mjs";

/** @type {Record<string, { debian: string, triplet: string } | undefined>} */
const ARCHITECTURES = {
  "linux-x64": { debian: "amd64", triplet: "x86_64-linux-gnu" },
  "linux-arm64": { debian: "arm64", triplet: "aarch64-linux-gnu" },
};
const NEEDED = ["libresty_ts.so", "resty_ts.node", "host.cjs", "undici.cjs"];
const BACKEND = /^libresty_ts_node(\d+)\.so$/;

/** @typedef {{ version: string, description: string, homepage: string }} Manifest */
const manifest = /** @type {Manifest} */ (JSON.parse(readFileSync(inRoot("package.json"), "utf8")));
const COPYRIGHT = `Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: lua-resty-ts
Source: ${manifest.homepage}

Files: *
Copyright: the lua-resty-ts authors
License: Apache-2.0
 On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.
`;

/** What the package has, by its path in it: bytes, or the target of a link. @typedef {Map<string, Buffer | string>} Tree */

/** @param {string} libraries @param {string} triplet @returns {Tree} */
function treeOf(libraries, triplet) {
  /** @type {Tree} */
  const tree = new Map();
  const share = "usr/share/lua-resty-ts";
  const names = readdirSync(libraries)
    .filter((name) => BACKEND.test(name))
    .sort();
  for (const name of [...NEEDED, ...names]) {
    const bytes = readFileSync(path.join(libraries, name));
    const isHost = name.endsWith(".cjs");
    tree.set(isHost ? `${share}/${name}` : `usr/lib/${triplet}/lua-resty-ts/${name}`, bytes);
    if (name === "undici.cjs") continue; // the host finds it beside itself
    const target = isHost ? "../../../../share/lua-resty-ts" : "../../lua-resty-ts";
    tree.set(`usr/lib/${triplet}/lua/5.1/${name}`, `${target}/${name}`);
  }
  for (const file of filesBelow("lua", (name) => name.endsWith(".lua"))) {
    tree.set(file.replace(/^lua\//, "usr/share/lua/5.1/"), readFileSync(inRoot(file)));
  }
  tree.set(`${share}/resty_ts.conf`, readFileSync(inRoot("conf/resty_ts.conf")));
  const doc = "usr/share/doc/lua-resty-ts";
  tree.set(`${doc}/copyright`, Buffer.from(COPYRIGHT));
  tree.set(`${doc}/changelog.gz`, gzipSync(readFileSync(inRoot("CHANGELOG.md")), { level: 9 }));
  return tree;
}

/** @param {Tree} tree @param {string} architecture */
function control(tree, architecture) {
  const kilobytes = [...tree.values()].reduce(
    (sum, value) => sum + (typeof value === "string" ? 1 : Math.ceil(value.length / 1024)),
    0,
  );
  const libnodes = [...tree.keys()]
    .flatMap((file) => BACKEND.exec(path.basename(file))?.[1] ?? [])
    .map((abi) => `libnode${abi}`);
  return `Package: lua-resty-ts
Version: ${manifest.version}-1
Architecture: ${architecture}
Maintainer: The lua-resty-ts maintainers <lua-resty-ts@users.noreply.github.com>
Installed-Size: ${kilobytes}
Depends: libnginx-mod-http-lua, lua-resty-core, libc6, libstdc++6
Recommends: ${[...new Set(libnodes), "nodejs (>= 18)"].join(" | ")}
Section: web
Priority: optional
Homepage: ${manifest.homepage}
Description: TypeScript plugins for nginx
 Runs Node in a thread of each nginx worker, or in a process beside it, and
 TypeScript or JavaScript plugins in nginx's phases, away from its event loop.
`;
}

/** @param {string} folder @param {Tree} tree @param {number} epoch */
function writeTree(folder, tree, epoch) {
  for (const [name, value] of tree) {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    if (typeof value === "string") {
      symlinkSync(value, file);
    } else {
      writeFileSync(file, value);
      chmodSync(file, 0o644);
    }
  }
  const all = readdirSync(folder, { recursive: true, encoding: "utf8" });
  for (const name of ["", ...all].sort().reverse()) {
    const file = path.join(folder, name);
    if (statSync(file, { throwIfNoEntry: false })?.isDirectory()) chmodSync(file, 0o755);
    lutimesSync(file, epoch, epoch);
  }
}

/** @param {string} libraries @param {string} out */
async function makeDeb(libraries, out) {
  const about = ARCHITECTURES[platform];
  if (about === undefined) throw new Failure(`${platform}: there is no Debian package for it`);
  const missing = NEEDED.filter((name) => !exists(path.join(libraries, name)));
  if (missing.length > 0) {
    throw new Failure(`${libraries} lacks ${missing.join(", ")}: run \`npm run prebuild\``);
  }
  const epoch = Number(
    process.env.SOURCE_DATE_EPOCH ??
      capture("git", ["log", "-1", "--format=%ct"], { cwd: inRoot() }).stdout,
  );
  if (!Number.isInteger(epoch) || epoch <= 0) {
    throw new Failure("no time for the files: set SOURCE_DATE_EPOCH, in seconds");
  }
  const tree = treeOf(libraries, about.triplet);
  const sums = [...tree].flatMap(([name, value]) =>
    typeof value === "string" ? [] : `${createHash("md5").update(value).digest("hex")}  ${name}\n`,
  );
  const text = control(tree, about.debian);
  tree.set("DEBIAN/control", Buffer.from(text));
  tree.set("DEBIAN/md5sums", Buffer.from(sums.sort().join("")));

  const scratch = mkdtempSync(path.join(os.tmpdir(), "resty-ts-deb-"));
  try {
    const name = `lua-resty-ts_${manifest.version}-1_${about.debian}.deb`;
    writeTree(path.join(scratch, "tree"), tree, epoch);
    const options = ["--root-owner-group", "-Zxz", "--threads-max=1"];
    const args = [...options, "--build", path.join(scratch, "tree"), path.join(scratch, name)];
    const env = { ...process.env, SOURCE_DATE_EPOCH: String(epoch) };
    await runQuietly("dpkg-deb", args, { env });
    mkdirSync(out, { recursive: true });
    copyFileSync(path.join(scratch, name), path.join(out, name));
    console.log(path.join(out, name));
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

await script(async () => {
  const { values } = parseArgs({
    options: {
      libraries: { type: "string", default: inRoot("prebuilds", platform) },
      out: { type: "string", default: inRoot("build-deb") },
    },
  });
  await makeDeb(path.resolve(values.libraries), path.resolve(values.out));
});
