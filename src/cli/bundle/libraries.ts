/** The shared libraries and the host of a bundle: prebuilt ones, else those that were built here. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { UsageError } from "../exit.js";
import { PACKAGE } from "../package.js";
import { platform as here } from "../platform.js";

export interface Libraries {
  /** Absolute paths. */
  readonly files: readonly string[];
  /** NODE_MODULE_VERSION of each libnode that there is a backend for. */
  readonly abis: readonly number[];
  /** The glibc that they need; undefined: not known, or not glibc. */
  readonly glibc: string | undefined;
  readonly isPrebuilt: boolean;
}

const HOST = ["host.cjs", "host.cjs.map", "undici.cjs"];
const BACKEND = /^libresty_ts_node(\d+)\.so$/;

function librariesIn(folder: string): string[] {
  if (!existsSync(path.join(folder, "libresty_ts.so"))) return [];
  const isOne = (name: string): boolean =>
    BACKEND.test(name) || ["libresty_ts.so", "resty_ts.node"].includes(name);
  return readdirSync(folder)
    .filter(isOne)
    .map((name) => path.join(folder, name));
}

function glibcOf(folder: string): string | undefined {
  const manifest = path.join(folder, "manifest.json");
  if (!existsSync(manifest)) return undefined;
  return (JSON.parse(readFileSync(manifest, "utf8")) as { glibc?: string }).glibc;
}

/** @param platform as prebuilds/ names it. @throws {UsageError} when there are none. */
export function findLibraries(platform: string): Libraries {
  const prebuilt = path.join(PACKAGE, "prebuilds", platform);
  const isPrebuilt = librariesIn(prebuilt).length > 0;
  const local = platform === here ? librariesIn(path.join(PACKAGE, "build/Release")) : [];
  const libraries = isPrebuilt ? librariesIn(prebuilt) : local;
  const host = HOST.map((name) => path.join(isPrebuilt ? prebuilt : `${PACKAGE}dist`, name));
  const missing = host.find((file) => !existsSync(file));
  if (libraries.length === 0 || missing !== undefined) {
    throw new UsageError(
      `there are no libraries for ${platform}: ${missing ?? prebuilt} is missing; the npm package has ` +
        "prebuilt ones, and `npm run prebuild` makes them in the project",
    );
  }
  const abis = libraries.flatMap((file) => {
    const abi = BACKEND.exec(path.basename(file))?.[1];
    return abi === undefined ? [] : [Number(abi)];
  });
  return {
    files: [...libraries, ...host],
    abis: abis.sort((a, b) => a - b),
    glibc: glibcOf(prebuilt),
    isPrebuilt,
  };
}
