// Another architecture's packages of Debian, below .deps/PLATFORM: a libnode to link with, and what runs there under emulation.
// This machine's dpkg and apt are told nothing of it: they are unpacked, not installed, by an apt whose state is a folder of its
// own. It shares the machine's sources.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import * as apt from "./apt.mjs";
import { findBelow } from "./libnode.mjs";
import { exists, Failure, inRoot, run, runQuietly, which } from "./run.mjs";

/** @typedef {import("./platform.mjs").Cross} Cross */

/** To link with; what libnode itself depends on comes along. */
const DEVELOPMENT = ["libnode-dev", "libuv1-dev"];

/** Debian's cross compilers. @param {Cross} cross */
export async function ensureCompilers({ triplet }) {
  const lacking = ["gcc", "g++"].filter((name) => which(`${triplet}-${name}`) === undefined);
  if (lacking.length === 0) return;
  const packages = lacking.map((name) => `${name}-${triplet}`);
  if (!apt.hasApt || !apt.isRoot)
    throw new Failure(`missing: ${packages.join(", ")}; as root: ${apt.installLine(packages)}`);
  await apt.install(packages);
}

/** @param {Cross} cross @param {string[]} packages @param {string} state @returns {Promise<string[]>} .deb files */
async function download({ debian }, packages, state) {
  for (const name of ["lists/partial", "cache/archives/partial"])
    mkdirSync(path.join(state, name), { recursive: true });
  writeFileSync(path.join(state, "status"), "");
  const options = [
    `APT::Architecture=${debian}`,
    `APT::Architectures::=${debian}`,
    "Acquire::Languages=none",
    `Dir::State=${state}`,
    `Dir::State::status=${state}/status`,
    `Dir::Cache=${state}/cache`,
    // apt would fetch as the user _apt, who may not write here.
    ...(apt.isRoot ? ["APT::Sandbox::User=root"] : []),
  ].flatMap((option) => ["-o", option]);
  console.log(`${packages.join(" ")} for ${debian}, without installing them`);
  const quiet = { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" }, warnings: false };
  await runQuietly("apt-get", [...options, "update", "-qq"], quiet);
  const install = ["install", "-y", "-qq", "--download-only", "--no-install-recommends"];
  await runQuietly("apt-get", [...options, ...install, ...packages], quiet);
  const archives = path.join(state, "cache/archives");
  return readdirSync(archives)
    .filter((name) => name.endsWith(".deb"))
    .map((name) => path.join(archives, name));
}

/**
 * These packages and all that they depend on, unpacked; what is there already is kept.
 * @param {Cross} cross @param {string[]} [more]
 * @returns {Promise<string>} the folder, which is that machine's /
 */
export async function ensureForeign(cross, more = []) {
  const folder = inRoot(".deps", cross.platform);
  const record = path.join(folder, "packages.json");
  const there = exists(record)
    ? /** @type {string[]} */ (JSON.parse(readFileSync(record, "utf8")))
    : [];
  const wanted = [...new Set([...there, ...DEVELOPMENT, ...more])].sort();
  if (wanted.length === there.length) return folder;
  if (!apt.hasApt)
    throw new Failure(
      `building for ${cross.platform} takes libnode from Debian's packages, by apt`,
    );
  const state = mkdtempSync(path.join(tmpdir(), "resty-ts-apt-"));
  const partial = `${folder}.new`;
  try {
    const files = await download(cross, wanted, state);
    rmSync(partial, { recursive: true, force: true });
    mkdirSync(partial, { recursive: true });
    for (const file of files) await run("dpkg", ["-x", file, partial]);
    writeFileSync(path.join(partial, "packages.json"), JSON.stringify(wanted));
    rmSync(folder, { recursive: true, force: true });
    renameSync(partial, folder);
  } finally {
    rmSync(state, { recursive: true, force: true });
  }
  return folder;
}

/** As findBelow, of libraries that ldd cannot read here. @param {string} prefix */
export function findForeign(prefix) {
  const found = findBelow(prefix);
  if (found === undefined) return undefined;
  const libuv = path.join(path.dirname(found.lib), "libuv.so.1");
  return { ...found, uvLib: exists(libuv) ? libuv : "" };
}
