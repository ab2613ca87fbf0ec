// The name of a machine's kind, as folders of prebuilds/ have it. lua/resty/ts/native.lua has the same rule.
import os from "node:os";
import { Failure } from "./run.mjs";

/** Does node itself run on musl? Its report says so, without a child process. */
function isMusl() {
  const report = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (
    process.report.getReport()
  );
  return report.header.glibcVersionRuntime === undefined;
}

/** linux-x64, linux-arm64, linux-x64-musl */
export const platform = `${os.platform()}-${os.arch()}${isMusl() ? "-musl" : ""}`;

/**
 * A kind that is built on machines of another: its name in Node, in Debian, in compilers' names, in the kernel.
 * @typedef {{ platform: string, arch: string, debian: string, triplet: string, processor: string }} Cross
 */

/** @type {Cross[]} */
const CROSS = [
  {
    platform: "linux-arm64",
    arch: "arm64",
    debian: "arm64",
    triplet: "aarch64-linux-gnu",
    processor: "aarch64",
  },
];

/** How to build for this kind; undefined: as always, it is this machine's own. @param {string} name */
export function crossTo(name) {
  if (name === platform) return undefined;
  const found = CROSS.find((one) => one.platform === name);
  if (found === undefined) {
    const names = [platform, ...CROSS.map((one) => one.platform)];
    throw new Failure(`${name} cannot be built here: ${[...new Set(names)].join(" or ")}`);
  }
  return found;
}
