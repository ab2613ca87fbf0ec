// Where node-gyp finds Node's headers.
import { existsSync } from "node:fs";
import path from "node:path";

/**
 * Where include/node is: in the tree of the node that runs us, the distribution's, or libnode's. Any will do, as the addon
 * keeps to Node-API and libuv's stable part; without one node-gyp would download them.
 * For another platform they are libnode's, as config.gypi among them tells of the platform.
 * @param {import("./libnode.mjs").Libnode | undefined} libnode
 * @param {import("./platform.mjs").Cross} [cross]
 */
export function nodedir(libnode, cross) {
  const here = cross === undefined ? [path.resolve(process.execPath, "../.."), "/usr"] : [];
  const own = libnode === undefined ? [] : [path.resolve(libnode.includeDir, "../..")];
  const prefixes = [...here, ...own];
  return prefixes.find((prefix) => existsSync(path.join(prefix, "include/node/node_api.h")));
}
