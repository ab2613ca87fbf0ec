/**
 * `resty-ts bundle`: all that a machine with nginx, and a libnode or a node, needs to run plugins, as
 * one archive.
 *
 * Invariant: the same package and the same plugins give the same bytes, and no path of this machine is
 * in them. The file appears whole or not at all.
 */
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { makeFolder } from "../folders.js";
import { build, type BuildReport } from "../build/build.js";
import { sha256 } from "../build/manifest.js";
import { UsageError } from "../exit.js";
import type { PluginFolder } from "../plugin-files.js";
import { archive, type Entry } from "./archive.js";
import { PACKAGE } from "../package.js";
import { findLibraries } from "./libraries.js";
import { type Facts, nginxConf, readme } from "./texts.js";

export interface BundleOptions {
  readonly out: string;
  readonly platform: string;
  /** Of resty-ts. */
  readonly version: string;
}

export interface BundleReport {
  readonly file: string;
  readonly sha256: string;
  /** Paths in the archive. */
  readonly files: readonly string[];
  readonly warnings: readonly string[];
  /** Nothing was written when there is one. */
  readonly problems: readonly string[];
}

function below(folder: string): string[] {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)))
    .sort();
}

const entry = (to: string, file: string): Entry => ({ path: to, content: readFileSync(file) });

/** Of a source that is no file: `resty-ts:resty-ts`. */
const NAMESPACED = /^[\w-]+:/;

/** The sources' places as if they lay where the bundle's plugins do, not where they were built. */
function movedMap(json: Buffer, built: string, sources: string): Buffer {
  const map = JSON.parse(json.toString()) as { sources: string[] };
  map.sources = map.sources.map((source) =>
    NAMESPACED.test(source)
      ? source
      : path.join("..", path.relative(path.dirname(sources), path.resolve(built, source))),
  );
  return Buffer.from(`${JSON.stringify(map)}\n`);
}

interface Plugins {
  readonly report: BuildReport;
  readonly entries: readonly Entry[];
}

async function buildPlugins(folder: PluginFolder, version: string): Promise<Plugins> {
  const built = mkdtempSync(path.join(tmpdir(), "resty-ts-bundle-"));
  try {
    const report = await build(folder, [], built, version);
    const entries = below(built).map((name) => {
      const made = entry(`plugins/${name}`, path.join(built, name));
      if (!name.endsWith(".map")) return made;
      return { ...made, content: movedMap(made.content as Buffer, built, folder.path) };
    });
    return { report, entries };
  } finally {
    rmSync(built, { recursive: true, force: true });
  }
}

function sums(entries: readonly Entry[]): Entry {
  const sorted = [...entries].sort((a, b) => (a.path < b.path ? -1 : 1));
  const lines = sorted.map(({ path: name, content }) => `${sha256(content)}  ${name}\n`);
  return { path: "SHA256SUMS", content: Buffer.from(lines.join("")) };
}

function write(given: string, content: Buffer): string {
  const file = path.resolve(given);
  const partial = `${file}.${process.pid}.new`;
  try {
    makeFolder(path.dirname(file));
    writeFileSync(partial, content);
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    throw new UsageError(`--out ${given}: ${(error as Error).message}`, { cause: error });
  }
  return file;
}

/** @throws {UsageError} */
export async function bundle(
  folder: PluginFolder,
  { out, platform, version }: BundleOptions,
): Promise<BundleReport> {
  const libraries = findLibraries(platform);
  const { report, entries: plugins } = await buildPlugins(folder, version);
  const { problems, manifest } = report;
  if (problems.length > 0) return { file: out, sha256: "", files: [], warnings: [], problems };

  const name = `resty-ts-${version}-${platform}`;
  const external = Object.entries(manifest.external).map(([each, its]) => `${each}@${its}`);
  const facts: Facts = { name, platform, libraries, plugins: manifest.plugins, external };
  const warnings = [];
  if (!libraries.isPrebuilt) {
    warnings.push("there are no prebuilt libraries: these were built here, for machines like this");
  }
  if (external.length > 0) {
    const packages = external.join(", ");
    warnings.push(
      `${packages} (native) must be installed in plugins/ where the bundle is unpacked`,
    );
  }
  const inPackage = (where: string): Entry[] =>
    below(path.join(PACKAGE, where)).map((each) =>
      entry(`${where}/${each}`, path.join(PACKAGE, where, each)),
    );
  const entries = [
    ...libraries.files.map((file) => entry(`lib/${path.basename(file)}`, file)),
    ...["lua", "conf"].flatMap(inPackage),
    ...plugins,
    entry("LICENSE", path.join(PACKAGE, "LICENSE")),
    { path: "nginx.conf", content: nginxConf(facts) },
    { path: "README.md", content: readme(facts) },
  ];
  const inFolder = [...entries, sums(entries)].map((each) => ({
    ...each,
    path: `${name}/${each.path}`,
  }));
  const content = archive(inFolder);
  const files = inFolder.map((each) => each.path).sort();
  return { file: write(out, content), sha256: sha256(content), files, warnings, problems };
}
