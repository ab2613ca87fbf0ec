/**
 * Where the project's files are, and copies of what a run needs for users who may not read
 * the checkout.
 */
import { chmodSync, cpSync, existsSync, lstatSync, mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { recorded } from "../../scripts/lib/libnode.mjs";

export const PROJECT_ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const FIXTURES = join(PROJECT_ROOT, "test", "integration", "fixtures");

/** What nginx runs: the Lua files below a folder, and the folder of the libraries. */
export interface Installation {
  root: string;
  libraries: string;
  /** What ts.start takes when it is not told. */
  host: string;
  /** ts.start's; undefined: the system's. */
  libnode?: string;
  /** lua_package_cpath; undefined: the Lua files find the libraries themselves. */
  cpath?: string;
}

/**
 * The build of this checkout, or an unpacked bundle that RTS_BUNDLE names: then nothing that was built
 * here is loaded into nginx.
 */
export const INSTALLATION: Installation = installation(process.env["RTS_BUNDLE"]);

function installation(bundle: string | undefined): Installation {
  if (bundle === undefined || bundle === "") {
    const libnode = recorded()?.lib;
    return {
      root: PROJECT_ROOT,
      libraries: join(PROJECT_ROOT, "build", "Release"),
      host: join(PROJECT_ROOT, "dist", "host.cjs"),
      ...(libnode !== undefined && { libnode }),
    };
  }
  const libraries = join(bundle, "lib");
  const host = join(libraries, "host.cjs");
  return { root: bundle, libraries, host, cpath: join(libraries, "?.so") };
}

/** A new folder that every user may enter and read. */
export function makeFolder(purpose: string): string {
  const folder = mkdtempSync(join(tmpdir(), `rts-test-${purpose}-`));
  chmodSync(folder, 0o755);
  return folder;
}

function openToAll(path: string): void {
  const stat = lstatSync(path);
  if (stat.isSymbolicLink()) return;
  if (stat.isDirectory()) {
    chmodSync(path, 0o755);
    for (const name of readdirSync(path)) openToAll(join(path, name));
  } else {
    chmodSync(path, stat.mode & 0o100 ? 0o755 : 0o644);
  }
}

/** What an installed project consists of at run time, beside lua/ and the libraries. */
const RUNTIME_PARTS = [
  "package.json",
  "dist",
  "node_modules/esbuild",
  "node_modules/@esbuild",
  "node_modules/commander",
];

/**
 * A copy of the built project in a new folder that every user may read.
 * The caller removes it.
 */
export function stageProject(): string {
  const stage = makeFolder("stage");
  const parts = [
    ["build/Release", INSTALLATION.libraries],
    ["lua", join(INSTALLATION.root, "lua")],
    ...RUNTIME_PARTS.map((part) => [part, join(PROJECT_ROOT, part)] as const),
  ] as const;
  for (const [part, source] of parts) {
    if (!existsSync(source)) continue;
    cpSync(source, join(stage, part), {
      recursive: true,
      dereference: true,
      // Object files and CMake's own are not needed to run.
      filter: (path) => !path.includes("CMakeFiles") && !path.endsWith(".o"),
    });
  }
  openToAll(stage);
  return stage;
}
