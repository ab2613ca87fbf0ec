/**
 * Which libraries Lua takes: prebuilt ones before a local build, and one that is there and broken is
 * told, with its path and in the loader's words, rather than passed over.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { after, afterEach, beforeEach, describe, it } from "node:test";
import { platform as buildPlatform } from "../../scripts/lib/platform.mjs";
import { platform } from "../../src/cli/platform.js";
import { makeFolder, PROJECT_ROOT } from "../support/project.js";

const BUILT = path.join(PROJECT_ROOT, "build/Release");
const scratch = makeFolder("lookup");

/** A project with these Lua files and no libraries yet. */
let root = "";
const inRoot = (...parts: string[]): string => path.join(root, ...parts);
const prebuilt = (name = ""): string => inRoot("prebuilds", platform, name);
const local = (name = ""): string => inRoot("build/Release", name);

/** Runs Lua with the project's files. `cpath` comes before what LuaJIT has. */
function lua(code: string, cpath = ""): string {
  const env = { ...process.env, LUA_PATH: `${root}/lua/?.lua;;`, LUA_CPATH: `${cpath};;` };
  return execFileSync("luajit", ["-e", code], { env, cwd: scratch, encoding: "utf8" }).trim();
}

/** The path that was loaded, or the error. */
const load = (cpath?: string): string =>
  lua(`local _, what = require("resty.ts.native").load() print(what)`, cpath);

/** The error of ts.start. */
const start = (runtime: string): string =>
  lua(`local ok, err = require("resty.ts").start { modules = "${root}", runtime = "${runtime}" }
       print(ok, err)`);

function put(folder: string): void {
  mkdirSync(folder, { recursive: true });
  cpSync(path.join(BUILT, "libresty_ts.so"), path.join(folder, "libresty_ts.so"));
}

/** All that is in a folder of prebuilt files. */
function putAll(folder: string): void {
  put(folder);
  const more = readdirSync(BUILT).filter((name) => /^libresty_ts_node|\.node$/.test(name));
  for (const name of more) cpSync(path.join(BUILT, name), path.join(folder, name));
  cpSync(path.join(PROJECT_ROOT, "dist/host.cjs"), path.join(folder, "host.cjs"));
  symlinkSync(path.join(BUILT, "libnode"), path.join(folder, "libnode"));
}

describe("libresty_ts.so", () => {
  beforeEach(() => {
    root = path.join(scratch, "project");
    cpSync(path.join(PROJECT_ROOT, "lua"), inRoot("lua"), { recursive: true });
  });
  afterEach(() => {
    rmSync(root, { recursive: true });
  });
  after(() => {
    rmSync(scratch, { recursive: true });
  });

  it("is taken from package.cpath, then from prebuilds, then from the local build", () => {
    const elsewhere = path.join(root, "elsewhere");
    for (const folder of [elsewhere, prebuilt(), local()]) put(folder);
    const cpath = `${elsewhere}/?.so`;
    assert.equal(load(cpath), `${elsewhere}/libresty_ts.so`);
    assert.equal(load(), prebuilt("libresty_ts.so"));
    rmSync(prebuilt(), { recursive: true });
    assert.equal(load(), local("libresty_ts.so"));
  });

  it("that is nowhere is an error with the places and the cure", () => {
    const error = load();
    assert.ok(error.includes(`${root}/prebuilds/${platform}`), error);
    assert.match(error, /build\/Release.*npm run build/);
  });

  const broken: [what: string, make: (file: string) => void, why: RegExp][] = [
    ["is empty", (file) => writeFileSync(file, ""), /file too short/],
    ["is no library", (file) => writeFileSync(file, "x".repeat(4096)), /invalid ELF header/],
    ["is a folder", (file) => mkdirSync(file), /Is a directory/],
    ["cannot be opened", (file) => symlinkSync("libresty_ts.so", file), /Too many levels/],
  ];
  for (const [what, make, why] of broken) {
    it(`in prebuilds that ${what} is told, though a local build is there`, () => {
      put(local());
      mkdirSync(prebuilt(), { recursive: true });
      make(prebuilt("libresty_ts.so"));
      const error = load();
      assert.ok(error.includes(prebuilt("libresty_ts.so")), error);
      assert.match(error, why);
    });
  }

  it("in prebuilds that is for another machine is told to be, as the loader says that it is not there", () => {
    put(prebuilt());
    const file = prebuilt("libresty_ts.so");
    const bytes = readFileSync(file);
    const [own, other] = process.arch === "x64" ? ["x64", "arm64"] : ["arm64", "x64"];
    bytes.writeUInt16LE(other === "arm64" ? 183 : 62, 18); // e_machine
    writeFileSync(file, bytes);
    assert.ok(load().startsWith(`${file} is for ${other}, and this process is ${own}: `), load());
  });

  it("has a broken backend told with its path, in the loader's words", () => {
    putAll(prebuilt());
    const backend = readdirSync(prebuilt()).find((name) => name.startsWith("libresty_ts_node"));
    writeFileSync(prebuilt(backend), "");
    const error = start("embedded");
    assert.ok(error.includes(`${prebuilt(backend)}: file too short`), error);
    assert.match(error, /the backend for \S*libnode\S* does not load/);
  });

  it("has a broken addon told with its path, in the loader's words", () => {
    putAll(prebuilt());
    writeFileSync(prebuilt("resty_ts.node"), "");
    const error = start("process");
    assert.ok(error.includes(`${prebuilt("resty_ts.node")}: file too short`), error);
  });
});

describe("a machine's kind", () => {
  it("has one name in the build, in the command and in Lua", () => {
    assert.equal(platform, buildPlatform);
    assert.match(platform, /^linux-\w+(-musl)?$/);
  });
});
