/** The tests' programs in C, built when they are needed. */
import { execFileSync } from "node:child_process";
import { mkdirSync, renameSync } from "node:fs";
import { basename, join } from "node:path";
import { PROJECT_ROOT } from "./project.js";

const FOLDER = join(PROJECT_ROOT, "build-test", "programs");

/** @returns the program's path, or the library's, as the options have it. */
export function compileC(source: string, ...options: string[]): string {
  mkdirSync(FOLDER, { recursive: true });
  const path = join(FOLDER, basename(source, ".c"));
  // Others may build and run it at the same time.
  const made = `${path}-${process.pid}`;
  const warnings = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"];
  const include = [`-I${PROJECT_ROOT}/native`, `-I${PROJECT_ROOT}/native/include`];
  execFileSync("gcc", [...warnings, ...include, ...options, source, "-o", made], {
    stdio: "inherit",
  });
  renameSync(made, path);
  return path;
}
