/** One text, three languages: what record.h, wire.lua and wire.ts say must be the same. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { it } from "node:test";
import {
  FLAG_MORE,
  HEADER_BYTES,
  Kind,
  LogLevel,
  MAX_DEPTH,
  MAX_ELEMENTS,
} from "../../src/host/wire.ts";
import { PROJECT_ROOT } from "../support/project.ts";

const read = (name: string) => readFileSync(join(PROJECT_ROOT, name), "utf8");

/** NAME -> number for every match of the pattern, which has two groups. */
function numbers(text: string, pattern: RegExp): Record<string, number> {
  return Object.fromEntries(
    [...text.matchAll(pattern)].map(([, name, value]) => [name ?? "", Number(value)]),
  );
}

const kindsOfC = numbers(read("native/channel/record.h"), /RTS_KIND_(\w+) = (\d+)/g);
const lua = numbers(read("lua/resty/ts/wire.lua"), /^\s+(\w+) = (\d+),/gm);
const document = read("docs/wire-format.md");

const byKey = (table: Record<string, number>) =>
  Object.fromEntries(Object.entries(table).map(([name, value]) => [name.toUpperCase(), value]));
const kindsOfLua = Object.fromEntries(
  Object.entries(lua)
    .filter(([name]) => name.startsWith("KIND_"))
    .map(([name, value]) => [name.slice("KIND_".length), value]),
);

it("the kinds of records are the same in C, Lua, TypeScript and the document", () => {
  const documented = Object.fromEntries(
    [...document.matchAll(/^\| (\d+) \| `([A-Z]+)` \|/gm)].map(([, value, name]) => [
      name ?? "",
      Number(value),
    ]),
  );
  assert.equal(Object.keys(kindsOfC).length, 13);
  assert.deepEqual(kindsOfLua, kindsOfC);
  assert.deepEqual(byKey(Kind), kindsOfC);
  assert.deepEqual(documented, kindsOfC);
});

it("flags, sizes and limits are the same in C, Lua, TypeScript and the document", () => {
  const flag = Number(/RTS_FLAG_MORE = (\d+)/.exec(read("native/channel/record.h"))?.[1]);
  assert.deepEqual([flag, lua.FLAG_MORE], [FLAG_MORE, FLAG_MORE]);
  const header = Number(/A record is a header of (\d+) bytes/.exec(document)?.[1]);
  assert.deepEqual([header, lua.HEADER_BYTES], [HEADER_BYTES, HEADER_BYTES]);
  const depth = Number(/Nested values go (\d+) deep/.exec(document)?.[1]);
  assert.deepEqual([depth, lua.MAX_DEPTH], [MAX_DEPTH, MAX_DEPTH]);
  const elements = Number(/([\d,]+) elements/.exec(document)?.[1]?.replaceAll(",", ""));
  assert.deepEqual([elements, lua.MAX_ELEMENTS], [MAX_ELEMENTS, MAX_ELEMENTS]);
});

it("the levels of log lines are the same in Lua, TypeScript and the document", () => {
  const names = Object.entries(LogLevel).sort(([, a], [, b]) => a - b);
  assert.deepEqual(
    names.map(([, value]) => value),
    [1, 2, 3, 4, 5],
  );
  const ordered = names.map(([name]) => name);
  const inLua = /local names = \{([^}]*)\}/.exec(read("lua/resty/ts.lua"))?.[1];
  assert.deepEqual(
    [...(inLua ?? "").matchAll(/"(\w+)"/g)].map(([, name]) => name),
    ordered,
  );
  const inDocument = /level: ([^|]*)\|/.exec(document)?.[1] ?? "";
  assert.deepEqual(
    [...inDocument.matchAll(/\d (\w+)/g)].map(([, name]) => name),
    ordered,
  );
});

it("the protocol's number is the same in the header and the stand-alone addon", async () => {
  const { newNative } = await import("../ts/lua-side.ts");
  const number = Number(/#define RTS_PROTOCOL (\d+)/.exec(read("native/include/resty_ts.h"))?.[1]);
  assert.equal(newNative(4096).layout.protocol, number);
});
