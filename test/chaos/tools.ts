/** The suite's programs in C, built when they are first needed, and how they are used. */
import { join } from "node:path";
import { compileC } from "../support/compile.js";

const SOURCES = join(import.meta.dirname, "tools");
const compile = (source: string, ...options: string[]): string =>
  compileC(join(SOURCES, source), ...options);

/** A library to preload (scarce.c). */
export function buildScarce(): string {
  return compile("scarce.c", "-shared", "-fPIC", "-ldl");
}

/** A program (hostile.c). */
export function buildHostile(): string {
  return compile("hostile.c");
}
