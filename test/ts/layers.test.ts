// docs/architecture.md, "Rooms", as a test: which room may know whom. Reads includes and imports, runs nothing.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, it } from "node:test";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");
const read = (file: string): string => readFileSync(path.join(root, file), "utf8");

function filesBelow(folder: string, pattern: RegExp): string[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: "utf8" })
    .filter((name) => pattern.test(name))
    .map((name) => path.posix.join(folder, name));
}

/** Of `#include "a/b.h"` and `#include <c.h>`: a/b.h and c.h. */
function includesOf(file: string): string[] {
  return [...read(file).matchAll(/^[ \t]*#[ \t]*include[ \t]+["<]([^">]+)[">]/gm)].map(
    (match) => match[1] ?? "",
  );
}

/** Headers that only certain rooms may know, however they are included. */
const FOREIGN =
  /^(node\w*|v8[\w-]*|uv|napi[\w-]*|js_native_api\w*|lua\w*|lauxlib|ngx_\w+)(\/.*)?\.h$/;

/** A room: its files, the headers of ours that it may include, and the foreign ones. */
interface NativeRoom {
  readonly files: readonly string[];
  readonly ours: RegExp;
  readonly foreign: RegExp;
}

type Sources = Record<"channel" | "runtime" | "embedded" | "addon" | "program", string[]>;
const sources = JSON.parse(read("native/sources.json")) as Sources;
const NOTHING = /^(?!)/;
const PUBLIC = "(resty_ts|rts_errors)\\.h";

const nativeRooms: Record<string, NativeRoom> = {
  include: {
    files: filesBelow("native/include", /\.h$/),
    ours: /^rts_errors\.h$/,
    foreign: NOTHING,
  },
  channel: {
    files: [...sources.channel, ...filesBelow("native/channel", /\.h$/)],
    ours: new RegExp(`^(channel/.*|${PUBLIC})$`),
    foreign: NOTHING,
  },
  "runtime's core": {
    files: [
      ...sources.runtime,
      ...filesBelow("native/runtime", /\.h$/).filter((file) => !file.endsWith("/tenant.h")),
    ],
    ours: new RegExp(`^(runtime/.*|channel/.*|${PUBLIC})$`),
    foreign: NOTHING,
  },
  "runtime's backend": {
    files: [...sources.embedded, "native/runtime/tenant.h"],
    ours: new RegExp(`^(runtime/.*|channel/.*|addon/addon\\.h|${PUBLIC})$`),
    foreign: /^(node|node_api|v8|uv)\.h$/,
  },
  addon: {
    files: [...sources.addon, ...sources.program, ...filesBelow("native/addon", /\.h$/)],
    ours: new RegExp(`^(addon/.*|channel/.*|${PUBLIC})$`),
    foreign: /^(napi|node_api|uv)\.h$/,
  },
};

describe("native rooms", () => {
  for (const [name, { files, ours, foreign }] of Object.entries(nativeRooms)) {
    it(`${name} includes only what it may know`, () => {
      assert.ok(files.length > 0, `${name} has no files`);
      for (const file of files) {
        for (const header of includesOf(file)) {
          // Ours are found by name: every folder of native/ is on the include path.
          const isOurs =
            existsSync(path.join(root, "native", header)) ||
            existsSync(path.join(root, "native/include", header)) ||
            existsSync(path.join(root, path.dirname(file), header));
          if (isOurs) assert.match(header, ours, `${file} includes ${header}`);
          else if (FOREIGN.test(header))
            assert.match(header, foreign, `${file} includes ${header}`);
        }
      }
    });
  }

  it("every native source is in native/sources.json, and every file named there exists", () => {
    // One that both the core and the backend need is listed twice.
    const listed = [...new Set(Object.values(sources).flat())].sort();
    assert.deepEqual(listed, filesBelow("native", /\.(c|cc)$/).sort());
  });

  const library = path.join(root, "build/Release/libresty_ts.so");
  it("libresty_ts.so needs no libnode and no libuv", { skip: !existsSync(library) }, () => {
    const dynamic = execFileSync("readelf", ["-d", library], { encoding: "utf8" });
    assert.doesNotMatch(dynamic, /NEEDED.*lib(node|uv|stdc\+\+)/);
  });

  it("libresty_ts.so exports rts_ names only", { skip: !existsSync(library) }, () => {
    const symbols = execFileSync("nm", ["-D", "--defined-only", "-P", library], {
      encoding: "utf8",
    });
    const names = symbols.split("\n").map((line) => line.split(/[ @]/)[0] ?? "");
    const alien = names.filter((name) => name !== "" && !/^rts_/i.test(name));
    assert.deepEqual(alien, []);
    assert.ok(names.includes("rts_version"), "rts_version is not exported");
  });
});

/** What a module imports: `import`, `export from`, `import()` and `require`, types as well. */
function importsOf(file: string): string[] {
  const code = read(file).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
  const patterns = [
    /^\s*(?:import|export)\b[^'"`;]*?\bfrom\s*"([^"]+)"/gm,
    /^\s*import\s*"([^"]+)"/gm,
    /\b(?:import|require)\(\s*"([^"]+)"\s*\)/g,
  ];
  return patterns.flatMap((pattern) => [...code.matchAll(pattern)].map((match) => match[1] ?? ""));
}

/** The room below src/ that a relative import leads to; undefined for packages. */
function roomOf(file: string, specifier: string): string | undefined {
  if (!specifier.startsWith(".")) return undefined;
  return path.posix.join(path.posix.dirname(file), specifier).split("/")[1];
}

const tsRooms: Record<string, { readonly rooms: readonly string[]; readonly packages: RegExp }> = {
  sdk: { rooms: ["sdk"], packages: /^@sinclair\/typebox$/ },
  http: {
    rooms: ["http", "sdk"],
    packages:
      /^(node:(fs|stream|timers|crypto|net|zlib)|ajv(\/.*)?|ajv-formats|cookie|@fastify\/busboy)$/,
  },
  host: {
    rooms: ["host", "http", "sdk"],
    packages: /^(node:.*|@msgpack\/msgpack|esbuild|undici)$/,
  },
  cli: { rooms: ["cli", "host", "http", "sdk"], packages: /^(node:.*|commander|esbuild|yaml)$/ },
  testing: { rooms: ["testing", "http", "sdk"], packages: /^node:/ },
};

describe("TypeScript rooms", () => {
  for (const [name, { rooms, packages }] of Object.entries(tsRooms)) {
    it(`src/${name} imports only what it may know`, () => {
      if (!existsSync(path.join(root, "src", name))) return;
      for (const file of filesBelow(`src/${name}`, /\.m?ts$/)) {
        for (const specifier of importsOf(file)) {
          const room = roomOf(file, specifier);
          if (room === undefined) assert.match(specifier, packages, `${file} imports ${specifier}`);
          else assert.ok(rooms.includes(room), `${file} imports ${specifier}`);
        }
      }
    });
  }
});

describe("Lua rooms", () => {
  const files = filesBelow("lua", /\.lua$/);
  /** Files whose code, comments left out, has this. */
  const having = (pattern: RegExp): string[] =>
    files.filter((file) => pattern.test(read(file).replace(/--.*$/gm, "")));

  it("one file alone has ffi.cdef and ffi.load", () => {
    assert.deepEqual(having(/\bffi\.(cdef|load)\b/), ["lua/resty/ts/native.lua"]);
  });

  it("nothing but ours, lua-resty-core and APISIX is required", () => {
    // Debian's and OpenResty's Lua modules bring these alone: lua-cjson is a package of its own.
    const known = /^(resty\.ts\b|resty\.core\b|ngx\.|ffi$|bit$|table\.|apisix\.)/;
    const required = files.flatMap((file) =>
      [...read(file).matchAll(/\brequire\b[ (]*["']([\w.]+)["']/g)].map(([, name = ""]) => name),
    );
    assert.ok(required.length > 50);
    assert.deepEqual(
      required.filter((name) => !known.test(name)),
      [],
    );
  });

  it("the files for nginx and for plain LuaJIT alone know how a coroutine waits", () => {
    assert.deepEqual(having(/\bngx\.semaphore\b/), [
      "lua/resty/ts/wait_nginx.lua",
      "lua/resty/ts/waiter_nginx.lua",
    ]);
    assert.deepEqual(having(/\bcoroutine\.(yield|resume)\b/), [
      // Its steps are in a coroutine of its own, which waits for nothing.
      "lua/resty/ts/decode.lua",
      "lua/resty/ts/wait_plain.lua",
    ]);
  });
});
