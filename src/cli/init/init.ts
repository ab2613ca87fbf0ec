/**
 * `resty-ts init`: a project with a plugin, a test of it and what its commands need.
 *
 * Invariant: it writes into a new or an empty folder only.
 */
import { cpSync, readdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { makeFolder } from "../folders.js";
import { UsageError } from "../exit.js";
import { PACKAGE } from "../package.js";

const TEMPLATE = path.join(PACKAGE, "templates/project");
/** Of this package's, with the versions that it is tested with itself. */
const TOOLS = ["@types/node", "tsx", "typescript"];

interface Manifest {
  readonly version: string;
  readonly devDependencies: Readonly<Record<string, string>>;
}

/** A folder's name as npm takes it for a package. */
function packageName(folder: string): string {
  const name = path
    .basename(folder)
    .toLowerCase()
    .replaceAll(/[^a-z0-9._-]+/g, "-")
    .replaceAll(/^[._-]+|-+$/g, "");
  return name === "" ? "plugins" : name;
}

function manifestFor(folder: string): string {
  const own = JSON.parse(readFileSync(path.join(PACKAGE, "package.json"), "utf8")) as Manifest;
  const tools = TOOLS.map((name) => [name, `^${own.devDependencies[name] ?? "*"}`]);
  const manifest = {
    name: packageName(folder),
    version: "0.1.0",
    private: true,
    type: "module",
    scripts: {
      dev: "resty-ts dev",
      test: "node --import tsx --test test/*.test.ts",
      types: "tsc",
      check: "resty-ts check --conf resty-ts.json",
      build: "resty-ts build --out dist/plugins",
    },
    dependencies: { "resty-ts": `^${own.version}` },
    devDependencies: Object.fromEntries(tools) as Record<string, string>,
  };
  return `${JSON.stringify(manifest, undefined, 2)}\n`;
}

/** @returns the names of the files that it has written, sorted. @throws {UsageError} */
export function init(given: string): string[] {
  const folder = path.resolve(given);
  try {
    makeFolder(folder);
    if (readdirSync(folder).length > 0) {
      throw new UsageError(`${given} is not empty: a project is made in a new folder`);
    }
    cpSync(TEMPLATE, folder, { recursive: true });
    // npm would take one of its own name out of the package.
    renameSync(path.join(folder, "gitignore"), path.join(folder, ".gitignore"));
    writeFileSync(path.join(folder, "package.json"), manifestFor(folder));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`${given} cannot be made: ${(error as Error).message}`, { cause: error });
  }
  return filesBelow(folder);
}

function filesBelow(folder: string, below = ""): string[] {
  return readdirSync(path.join(folder, below), { withFileTypes: true })
    .flatMap((entry) => {
      const name = path.join(below, entry.name);
      return entry.isDirectory() ? filesBelow(folder, name) : [name];
    })
    .sort();
}
