// Where node-gyp finds Node's headers.
import { existsSync } from "node:fs";
import path from "node:path";

/**
 * Where include/node is: in the tree of the node that runs us, the distribution's, or libnode's. Any will do, as the addon
 * keeps to Node-API and libuv's stable part; without one node-gyp would download them.
 * @param {import("./libnode.mjs").Libnode} libnode
 */
export function nodedir({ includeDir }) {
  const prefixes = [
    path.resolve(process.execPath, "../.."),
    "/usr",
    path.resolve(includeDir, "../.."),
  ];
  return prefixes.find((prefix) => existsSync(path.join(prefix, "include/node/node_api.h")));
}
