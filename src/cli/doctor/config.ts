/** What doctor must know of an nginx.conf: by its words, as nginx itself would have to start to say it. */
import path from "node:path";
import type { Machine } from "./machine.js";

export interface NginxConfig {
  readonly file: string;
  readonly text: string;
  /** load_module's, absolute. */
  readonly modules: readonly string[];
  readonly user: string | undefined;
  readonly group: string | undefined;
  readonly packagePath: string | undefined;
  readonly packageCpath: string | undefined;
  /** lua_shared_dict's names. */
  readonly dicts: readonly string[];
  /** Texts that ts.start is given as they stand there. */
  readonly options: ReadonlyMap<string, string>;
}

const OPTIONS = [
  "plugins",
  "modules",
  "library",
  "libnode",
  "node",
  "host",
  "runtime_dir",
  "runtime",
  "connect",
];
const MOST_DEPTH = 16;

function matching(machine: Machine, pattern: string): string[] {
  if (!pattern.includes("*")) return [pattern];
  const expression = path
    .basename(pattern)
    .replaceAll(/[.+?^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*");
  const folder = path.dirname(pattern);
  return machine
    .list(folder)
    .filter((name) => new RegExp(`^${expression}$`).test(name))
    .map((name) => path.join(folder, name));
}

/** With what it includes; comments of nginx and of Lua left out. */
function expanded(machine: Machine, file: string, base: string, depth = 0): string {
  const text = machine.read(file).replaceAll(/^\s*(#|--).*$/gm, "");
  if (depth === MOST_DEPTH) return text;
  return text.replaceAll(/^\s*include\s+["']?([^;"']+)["']?\s*;/gm, (_, pattern: string) =>
    matching(machine, path.resolve(base, pattern))
      .map((each) => expanded(machine, each, base, depth + 1))
      .join("\n"),
  );
}

/** @param prefix nginx's: relative modules and ngx.config.prefix() are below it. */
export function readConfig(machine: Machine, file: string, prefix: string): NginxConfig {
  const text = expanded(machine, file, path.dirname(file));
  const all = (pattern: RegExp): string[] =>
    [...text.matchAll(pattern)].map(([, value = ""]) => value);
  const [user, group] = all(/^\s*user\s+([^;]+);/gm)[0]?.split(/\s+/) ?? [];
  const options = new Map<string, string>();
  for (const name of OPTIONS) {
    const pattern = new RegExp(
      `\\b${name}\\s*=\\s*(ngx\\.config\\.prefix\\(\\)\\s*\\.\\.\\s*)?["']([^"'\\n]+)["']`,
    );
    const [, isBelow, value] = pattern.exec(text) ?? [];
    if (value !== undefined) options.set(name, isBelow ? path.join(prefix, value) : value);
  }
  return {
    file,
    text,
    modules: all(/\bload_module\s+["']?([^;"']+)["']?\s*;/g).map((each) =>
      path.resolve(prefix, each),
    ),
    user,
    group,
    packagePath: all(/\blua_package_path\s+["']([^"']+)["']\s*;/g)[0],
    packageCpath: all(/\blua_package_cpath\s+["']([^"']+)["']\s*;/g)[0],
    dicts: all(/\blua_shared_dict\s+(\S+)/g),
    options,
  };
}
