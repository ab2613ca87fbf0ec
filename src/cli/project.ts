/** The project that a command is run in: where its plugins are, and what is installed beside them. */
import { existsSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { UsageError } from "./exit.js";

const PLUGIN_FOLDERS = ["plugins", path.join("src", "plugins")];

/** @param given by --plugins. @throws {UsageError} */
export function pluginsFolder(given?: string): string {
  if (given !== undefined) return given;
  const found = PLUGIN_FOLDERS.find((folder) =>
    statSync(folder, { throwIfNoEntry: false })?.isDirectory(),
  );
  if (found !== undefined) return found;
  throw new UsageError(
    `there is no folder ${PLUGIN_FOLDERS.join(" and no ")} here: --plugins names the plugins' folder`,
  );
}

/** The nearest file or folder of this name, in `folder` or above. */
export function findAbove(folder: string, name: string): string | undefined {
  for (let at = path.resolve(folder); ; at = path.dirname(at)) {
    const file = path.join(at, name);
    if (existsSync(file)) return file;
    if (at === path.dirname(at)) return undefined;
  }
}

/** The script of a command that a package brings, found as Node finds packages from `folder` on. */
export function packageCommand(
  folder: string,
  packageName: string,
  command: string,
): string | undefined {
  const manifest = findAbove(folder, path.join("node_modules", packageName, "package.json"));
  if (manifest === undefined) return undefined;
  const { bin } = JSON.parse(readFileSync(manifest, "utf8")) as { bin?: Record<string, string> };
  const script = bin?.[command];
  return script === undefined ? undefined : path.resolve(path.dirname(manifest), script);
}

/** A path as people and editors have it, from the working directory on where it is below that. */
export function shownPath(file: string): string {
  const relative = path.relative("", file);
  return relative.startsWith("..") ? path.resolve(file) : relative;
}
