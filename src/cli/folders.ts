/** Folders that a command writes to. */
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";

/**
 * Makes a folder and those above it. Node's own `recursive` never returns where a folder cannot be
 * made and says "no such file" of it, as in /proc.
 * @throws {Error} as mkdirSync does.
 */
export function makeFolder(folder: string): void {
  if (existsSync(folder)) return;
  makeFolder(path.dirname(folder));
  mkdirSync(folder);
}
