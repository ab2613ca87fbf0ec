/** What LuaRocks and opm are told, against the tree: the rockspec as LuaJIT reads it, dist.ini. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { PROJECT_ROOT } from "../../support/project.js";

const read = (name: string): string => readFileSync(join(PROJECT_ROOT, name), "utf8");
const manifest = JSON.parse(read("package.json")) as {
  version: string;
  homepage: string;
  repository: { url: string };
};

const luaFiles = readdirSync(join(PROJECT_ROOT, "lua"), { recursive: true, encoding: "utf8" })
  .filter((name) => name.endsWith(".lua"))
  .sort();

/** Runs the rockspec as LuaRocks does, in an empty environment; a line a field or module. */
const DUMP = `
  local spec = setfenv(assert(loadfile(arg[1])), {})
  local env = getfenv(spec)
  spec()
  print("package", env.package)
  print("version", env.version)
  print("url", env.source.url)
  print("tag", env.source.tag)
  print("type", env.build.type)
  for _, folder in ipairs(env.build.copy_directories) do print("folder", folder) end
  for name, file in pairs(env.build.modules) do print("module", name, file) end
`;

function rockspecs(): string[] {
  return readdirSync(PROJECT_ROOT).filter((name) => name.endsWith(".rockspec"));
}

function dump(): string[][] {
  const [file = ""] = rockspecs();
  const script = join(PROJECT_ROOT, file);
  const text = execFileSync("luajit", ["-e", `arg = { [[${script}]] } ${DUMP}`], {
    encoding: "utf8",
  });
  return text
    .trimEnd()
    .split("\n")
    .map((line) => line.split("\t"));
}

const valuesOf = (rows: string[][], field: string): string[] =>
  rows.filter(([name]) => name === field).map(([, value = ""]) => value);

describe("the rockspec", () => {
  test("there is one, and its name has the version", () => {
    assert.deepEqual(rockspecs(), [`lua-resty-ts-${manifest.version}-1.rockspec`]);
  });

  test("it has the version of package.json, and its repository", () => {
    const rows = dump();
    assert.deepEqual(valuesOf(rows, "package"), ["lua-resty-ts"]);
    assert.deepEqual(valuesOf(rows, "version"), [`${manifest.version}-1`]);
    assert.deepEqual(valuesOf(rows, "tag"), [`v${manifest.version}`]);
    assert.deepEqual(valuesOf(rows, "url"), [manifest.repository.url]);
    assert.deepEqual(valuesOf(rows, "type"), ["builtin"]);
  });

  test("it lists every Lua file by the name that require wants, and no others", () => {
    const listed = dump().filter(([field]) => field === "module");
    assert.deepEqual(
      listed.map(([, , file = ""]) => file).sort(),
      luaFiles.map((f) => `lua/${f}`),
    );
    for (const [, name = "", file] of listed) {
      assert.equal(`lua/${name.replaceAll(".", "/")}.lua`, file);
    }
  });

  test("the folders that it copies are there", () => {
    for (const folder of valuesOf(dump(), "folder")) {
      assert.ok(existsSync(join(PROJECT_ROOT, folder)), folder);
    }
  });
});

describe("opm's dist.ini", () => {
  const fields = new Map(
    read("dist.ini")
      .split("\n")
      .filter((line) => line !== "" && !line.startsWith("#"))
      .map((line): [string, string] => {
        const [, key = "", value = ""] = /^(\w+) = (\S.*)$/.exec(line) ?? [];
        return [key, value];
      }),
  );

  test("it has the fields that opm wants, and no others", () => {
    const wanted = ["name", "abstract", "author", "is_original", "license", "repo_link"];
    const optional = ["lib_dir", "doc_dir", "main_module", "requires"];
    assert.deepEqual([...fields.keys()].sort(), [...wanted, ...optional].sort());
    assert.equal(fields.get("name"), "lua-resty-ts");
    assert.equal(fields.get("repo_link"), manifest.homepage);
  });

  test("its folders are there, and lib_dir has all Lua files", () => {
    assert.equal(fields.get("lib_dir"), "lua");
    assert.ok(existsSync(join(PROJECT_ROOT, fields.get("doc_dir") ?? "?")));
  });

  test("in its main module opm finds the version of package.json", () => {
    // opm's own rule: the first line of that form.
    const text = read(fields.get("main_module") ?? "?");
    const [, version] = /\b(?:_?VERSION|version)\s*=\s*"([^"]+)"/.exec(text) ?? [];
    assert.equal(version, manifest.version);
  });
});
