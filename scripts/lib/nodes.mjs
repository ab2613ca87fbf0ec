// Stock Nodes of other majors, for tests and benchmarks of the process runtime: the program alone, from npm's node-linux-* packages,
// in .deps/nodes/MAJOR/node. One that cannot be fetched is left out: who needs it says so.
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { capture, exists, inRoot } from "./run.mjs";

export const MAJORS = [20, 22, 24, 26];
const FOLDER = inRoot(".deps/nodes");

/** @param {number} major */
const programOf = (major) => path.join(FOLDER, String(major), "node");

/** Those that are there, by major. @returns {Map<number, string>} */
export function nodes() {
  const found = MAJORS.filter((major) => exists(programOf(major)));
  return new Map(found.map((major) => [major, programOf(major)]));
}

/** @param {number} major */
function fetchNode(major) {
  const partial = mkdtempSync(path.join(FOLDER, "new-"));
  try {
    const name = `node-linux-${process.arch}@${major}`;
    const packed = capture("npm", ["pack", "--silent", "--pack-destination", partial, name]);
    const archive = readdirSync(partial).find((file) => file.endsWith(".tgz"));
    if (!packed.ok || archive === undefined) return false;
    const from = path.join(partial, archive);
    const unpacked = capture("tar", ["-xzf", from, "-C", partial, "package/bin/node"]);
    if (!unpacked.ok) return false;
    mkdirSync(path.dirname(programOf(major)), { recursive: true });
    renameSync(path.join(partial, "package/bin/node"), programOf(major));
    return true;
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

/** Fetches what is missing. */
export function ensureNodes() {
  mkdirSync(FOLDER, { recursive: true });
  for (const major of MAJORS) {
    if (exists(programOf(major))) continue;
    console.log(`node ${major} from npm, for the process runtime`);
    if (!fetchNode(major)) console.log(`there is no node-linux-${process.arch}@${major} to be had`);
  }
}
