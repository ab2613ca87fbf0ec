// Writes what is generated from the C headers, package.json and the tree, or with --check proves that it is fresh and that
// the one version number is the same everywhere.
//   npm run generate [-- --check]
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import prettier from "prettier";
import { readDeclarations, readErrors, readVersion } from "./generate/header.ts";
import { renderCdef, renderErrorDocs, renderLuaErrors, renderTsErrors } from "./generate/render.ts";
import { renderRockspec, rockspecName, type Package } from "./generate/rockspec.ts";
import { filesBelow } from "./lib/files.mjs";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "..");
const read = (name: string): string => readFileSync(path.join(root, name), "utf8");

/** Prettier's check would refuse the file otherwise. */
async function formatted(name: string, text: string): Promise<string> {
  const options = await prettier.resolveConfig(path.join(root, name));
  return prettier.format(text, { ...options, filepath: name });
}

const manifest = JSON.parse(read("package.json")) as Package;
const rockspec = rockspecName(manifest.version);

async function render(): Promise<Map<string, string>> {
  const errors = readErrors(read("native/include/rts_errors.h"));
  const declarations = readDeclarations(read("native/include/resty_ts.h"));
  return new Map([
    ["lua/resty/ts/errors.lua", renderLuaErrors(errors)],
    ["lua/resty/ts/cdef.lua", renderCdef(declarations)],
    ["src/sdk/error-codes.ts", await formatted("error-codes.ts", renderTsErrors(errors))],
    [
      rockspec,
      renderRockspec(
        manifest,
        filesBelow("lua", (name) => name.endsWith(".lua")),
      ),
    ],
    ["docs/errors.md", await formatted("errors.md", renderErrorDocs(errors))],
  ]);
}

/** Every place that names the version; undefined where the file or the line is missing. */
function versions(): Map<string, string | undefined> {
  const json = (name: string): unknown => (JSON.parse(read(name)) as { version?: unknown }).version;
  const places: [string, (name: string) => unknown][] = [
    ["package.json", json],
    ["package-lock.json", json],
    ["native/include/resty_ts.h", (name) => readVersion(read(name))],
    ["lua/resty/ts.lua", (name) => /\b_VERSION = "([^"]*)"/.exec(read(name))?.[1]],
  ];
  return new Map(
    places.map(([name, find]) => {
      const found = existsSync(path.join(root, name)) ? find(name) : undefined;
      return [name, typeof found === "string" ? found : undefined];
    }),
  );
}

function checkVersions(): string[] {
  const found = versions();
  const wanted = found.get("package.json");
  return [...found]
    .filter(([, version]) => version !== wanted)
    .map(([name, version]) => `${name}: version ${version ?? "not found"}, not ${wanted ?? "?"}`);
}

/** A rockspec of another version, left behind. */
function checkRockspecs(): string[] {
  return readdirSync(root)
    .filter((name) => name.endsWith(".rockspec") && name !== rockspec)
    .map((name) => `${name}: package.json has version ${manifest.version}; remove the file`);
}

const { values } = parseArgs({ options: { check: { type: "boolean", default: false } } });
const problems: string[] = [];
for (const [name, text] of await render()) {
  const file = path.join(root, name);
  const now = existsSync(file) ? readFileSync(file, "utf8") : undefined;
  if (now === text) continue;
  if (values.check) {
    problems.push(`${name}: ${now === undefined ? "missing" : "stale"}; run \`npm run generate\``);
  } else {
    writeFileSync(file, text);
    console.log(name);
  }
}
if (values.check) problems.push(...checkVersions(), ...checkRockspecs());
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
