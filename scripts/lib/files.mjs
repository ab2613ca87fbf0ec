// Which of our files a tool is to look at.
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { inRoot, root } from "./run.mjs";

/**
 * Files below a folder of the project, in order, as paths relative to the root.
 * @param {string} folder @param {(name: string) => boolean} wanted
 * @returns {string[]}
 */
export function filesBelow(folder, wanted) {
  if (!existsSync(inRoot(folder))) return [];
  return readdirSync(inRoot(folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && wanted(entry.name))
    .map((entry) => path.relative(root, path.join(entry.parentPath, entry.name)))
    .filter((name) => !name.split(path.sep).includes("node_modules"))
    .sort();
}

const nativeFolders = ["native", "test"];

/** @param {RegExp} pattern */
const native = (pattern) =>
  nativeFolders.flatMap((folder) => filesBelow(folder, (name) => pattern.test(name)));

/** The addon's headers and tenant.h are C++ too; all others are C, and C++ includes them. */
export const cxxFiles = () => [
  ...native(/\.cc$/),
  ...filesBelow("native/addon", (name) => name.endsWith(".h")),
  "native/runtime/tenant.h",
];

export const cFiles = () => {
  const cxx = new Set(cxxFiles());
  return native(/\.[ch]$/).filter((name) => !cxx.has(name));
};
