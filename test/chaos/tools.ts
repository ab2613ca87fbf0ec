/** The suite's programs in C, built when they are first needed, and how they are used. */
import { execFileSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { PROJECT_ROOT } from "../support/project.js";

const SOURCES = join(import.meta.dirname, "tools");
const FOLDER = join(PROJECT_ROOT, "build-test", "chaos");

function compile(source: string, output: string, ...options: string[]): string {
  mkdirSync(FOLDER, { recursive: true });
  const path = join(FOLDER, output);
  const warnings = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Werror"];
  const include = [`-I${PROJECT_ROOT}/native`, `-I${PROJECT_ROOT}/native/include`];
  const args = [...warnings, ...include, ...options, join(SOURCES, source), "-o", path];
  execFileSync("gcc", args, { stdio: "inherit" });
  return path;
}

/** A library to preload (scarce.c). */
export function buildScarce(): string {
  return compile("scarce.c", "scarce.so", "-shared", "-fPIC", "-ldl");
}

/** A program (hostile.c). */
export function buildHostile(): string {
  return compile("hostile.c", "hostile");
}
