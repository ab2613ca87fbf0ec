/**
 * resty-ts.json while `resty-ts dev` runs: when it says something else, and whether that is sound.
 *
 * Thread: the process's main one; plugins are loaded in a process of its own, so that nothing that they
 * do there is seen here.
 */
import { execFile } from "node:child_process";
import { type FSWatcher, readFileSync, watch } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { UsageError } from "../exit.js";
import { type ProjectFile, readProjectFile } from "./project-file.js";

/** Editors write a file in several steps. */
const SETTLE_MS = 100;
const COMMAND = fileURLToPath(new URL("../main.js", import.meta.url));

export class ProjectWatch {
  readonly #file: string;
  readonly #watcher: FSWatcher;
  #known: string;
  #settling: NodeJS.Timeout | undefined;
  /** Of who waits for it. */
  #changed: (() => void) | undefined;

  /** From now on. */
  constructor(file: string) {
    this.#file = file;
    this.#known = this.#text();
    // The folder, as editors replace a file by another of the same name.
    this.#watcher = watch(path.dirname(path.resolve(file)), () => this.#lookSoon());
  }

  /** Resolves when it says something else than it did when this was called last. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#changed = resolve;
      this.#lookSoon();
    });
  }

  close(): void {
    clearTimeout(this.#settling);
    this.#watcher.close();
  }

  #lookSoon(): void {
    clearTimeout(this.#settling);
    this.#settling = setTimeout(() => this.#look(), SETTLE_MS);
  }

  #look(): void {
    const text = this.#text();
    if (this.#changed === undefined || text === this.#known) return;
    this.#known = text;
    this.#changed();
    this.#changed = undefined;
  }

  #text(): string {
    try {
      return readFileSync(this.#file, "utf8");
    } catch (error) {
      return (error as Error).message;
    }
  }
}

/** What `resty-ts check` finds in it and in its plugins. */
function checked(plugins: string, file: string, names: readonly string[]): Promise<string[]> {
  const args = ["check", "--no-types", "--json", "--plugins", plugins, "--conf", file];
  return new Promise((resolve) => {
    execFile(process.execPath, [COMMAND, ...args, ...names], (error, stdout, stderr) => {
      if (error === null) return resolve([]);
      try {
        resolve((JSON.parse(stdout) as { problems: string[] }).problems);
      } catch {
        resolve([stderr.trim()]);
      }
    });
  });
}

/** Reads it, and looks at its plugins' configurations. @returns it; or all that is wrong with it. */
export async function soundProject(
  file: string,
  plugins: string,
): Promise<ProjectFile | readonly string[]> {
  let project: ProjectFile;
  try {
    project = readProjectFile(file);
  } catch (error) {
    if (error instanceof UsageError) return [error.message];
    throw error;
  }
  const names = new Set(project.routes.flatMap((route) => route.plugins.map(({ name }) => name)));
  const problems = await checked(plugins, file, [...names]);
  return problems.length > 0 ? problems : project;
}
