/**
 * Packages that stay outside of a bundle because native files are a part of them: they find these by
 * their own place on disk.
 */
import { existsSync, readFileSync } from "node:fs";
import path from "node:path";
import type * as esbuild from "esbuild";

/** Packages by which others find or build their native files. */
const LOADERS = [
  ...["bindings", "nan", "node-addon-api", "node-gyp-build", "node-gyp-build-optional-packages"],
  ...["node-pre-gyp", "@mapbox/node-pre-gyp", "prebuild-install", "pkg-prebuilds", "cmake-js"],
];

interface Manifest {
  readonly name?: string;
  readonly version?: string;
  readonly main?: string;
  readonly gypfile?: boolean;
  readonly binary?: unknown;
  readonly napi?: unknown;
  readonly dependencies?: Readonly<Record<string, string>>;
}

export interface FoundPackage {
  readonly name: string;
  readonly version: string;
  readonly folder: string;
  readonly isNative: boolean;
}

function readManifest(folder: string): Manifest | undefined {
  const file = path.join(folder, "package.json");
  return existsSync(file) ? (JSON.parse(readFileSync(file, "utf8")) as Manifest) : undefined;
}

function isNative(folder: string, { main, gypfile, binary, napi, dependencies }: Manifest): boolean {
  return (
    gypfile === true ||
    binary !== undefined ||
    napi !== undefined ||
    main?.endsWith(".node") === true ||
    ["binding.gyp", "prebuilds"].some((name) => existsSync(path.join(folder, name))) ||
    LOADERS.some((name) => Object.hasOwn(dependencies ?? {}, name))
  );
}

/** The package that a file below some node_modules belongs to. */
export function packageOf(file: string): FoundPackage | undefined {
  const parts = file.split(path.sep);
  const at = parts.lastIndexOf("node_modules");
  if (at < 0) return undefined;
  const end = at + (parts[at + 1]?.startsWith("@") ? 3 : 2);
  const folder = parts.slice(0, end).join(path.sep);
  const manifest = readManifest(folder);
  if (manifest === undefined) return undefined;
  const name = parts.slice(at + 1, end).join("/");
  const { version = "0.0.0" } = manifest;
  return { name, version, folder, isNative: isNative(folder, manifest) };
}

/**
 * Leaves native packages where they are.
 * @param found gets each by its name.
 * @param known names of packages that a build before has found to be native.
 */
export function nativesStayPut(
  found: Map<string, FoundPackage>,
  known: ReadonlySet<string>,
): esbuild.Plugin {
  const ours = {};
  return {
    name: "natives-stay-put",
    setup(build) {
      build.onResolve({ filter: /^[^./]/ }, async (args) => {
        if (args.pluginData === ours || args.kind === "entry-point") return null;
        const { kind, importer, resolveDir } = args;
        const given = { kind, importer, resolveDir, pluginData: ours };
        const resolved = await build.resolve(args.path, given);
        if (resolved.errors.length > 0 || resolved.external) return resolved;
        const owner = packageOf(resolved.path);
        if (owner === undefined || !(owner.isNative || known.has(owner.name))) return resolved;
        found.set(owner.name, owner);
        return { path: args.path, external: true };
      });
      build.onResolve({ filter: /\.node$/ }, ({ path: name, importer }) => {
        const owner = packageOf(importer);
        if (owner !== undefined) {
          // It is left out by the next build.
          found.set(owner.name, owner);
          return { path: name, external: true };
        }
        const text = `${name} is a native file of the project's own: make it a package, and import that`;
        return { errors: [{ text }] };
      });
    },
  };
}
