/**
 * Where the project's files are, and copies of what a run needs for users who may not read
 * the checkout.
 */
import { chmodSync, cpSync, existsSync, lstatSync, mkdtempSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const PROJECT_ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
export const FIXTURES = join(PROJECT_ROOT, "test", "integration", "fixtures");

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

/** What an installed project consists of at run time. */
const RUNTIME_PARTS = [
  "package.json",
  "build/Release",
  "lua",
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
  for (const part of RUNTIME_PARTS) {
    const source = join(PROJECT_ROOT, part);
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
