/** The command as a user runs it, folders with plugins for it, and the Lua files that it writes. */
import { execFile, execFileSync } from "node:child_process";
import { mkdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { TestContext } from "node:test";
import { makeFolder, PROJECT_ROOT } from "../../support/project.js";

const CLI = join(PROJECT_ROOT, "dist/cli/main.js");
const CAPTURE = join(dirname(fileURLToPath(import.meta.url)), "capture.lua");
const COMMAND_MS = 60_000;

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export function runCli(...args: string[]): Promise<Ran> {
  const { promise, resolve, reject } = withResolvers<Ran>();
  execFile(
    process.execPath,
    [CLI, ...args],
    { timeout: COMMAND_MS, encoding: "utf8" },
    (error, stdout, stderr) => {
      if (error === null) resolve({ code: 0, stdout, stderr });
      else if (typeof error.code === "number") resolve({ code: error.code, stdout, stderr });
      else reject(error);
    },
  );
  return promise;
}

function withResolvers<T>() {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}

/** A new folder with these files, which goes when the test ends. */
export function folderOf(t: TestContext, files: Readonly<Record<string, string>> = {}): string {
  const folder = makeFolder("cli");
  t.after(() => {
    rmSync(folder, { recursive: true, force: true });
  });
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  return folder;
}

/** Has a folder these packages, resty-ts and what it needs itself, as npm would install them. */
export function installInto(folder: string, ...packages: string[]): void {
  for (const name of packages) {
    const link = join(folder, "node_modules", name);
    mkdirSync(dirname(link), { recursive: true });
    const own = join(PROJECT_ROOT, "node_modules", name);
    symlinkSync(name === "resty-ts" ? PROJECT_ROOT : own, link);
  }
}

/** A plugin's file. @param rest what stands in definePlugin beside the name. */
export const pluginText = (name: string, rest = "access() {}"): string =>
  `import { definePlugin } from "resty-ts";\n` +
  `export default definePlugin({ name: ${JSON.stringify(name)}, ${rest} });\n`;

/** What a generated file gives to resty.ts.apisix; schemas as Lua has them, JSON. */
export interface Captured extends Record<string, unknown> {
  readonly name: string;
  readonly schema: string;
}

/** Has LuaJIT load generated files. */
export function loadInLua(...files: string[]): Captured[] {
  const lines = execFileSync("luajit", [CAPTURE, ...files], { encoding: "utf8" });
  return lines
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as Captured);
}

/** The file of the plugin that APISIX calls so. */
export const luaFileOf = (out: string, name: string): string =>
  join(out, "apisix", "plugins", `${name}.lua`);
