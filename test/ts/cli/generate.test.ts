/** `resty-ts apisix generate` as it is run: what it writes, prints and returns. */
import assert from "node:assert/strict";
import {
  existsSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { PROJECT_ROOT } from "../../support/project.js";
import { folderOf, loadInLua, luaFileOf, pluginText, runCli } from "./support.js";

const EXAMPLES = join(PROJECT_ROOT, "examples", "plugins");

const generate = (plugins: string, out: string, ...more: string[]) =>
  runCli("apisix", "generate", "--plugins", plugins, "--out", out, ...more);

const filesIn = (out: string): string[] => readdirSync(join(out, "apisix", "plugins")).sort();

describe("resty-ts apisix generate", () => {
  test("writes a file of each example, which LuaJIT loads", async (t) => {
    const out = folderOf(t);
    const { code, stdout, stderr } = await generate(EXAMPLES, out);
    assert.equal(code, 0, stderr);
    const names = [
      ...["ab-upstream", "access-logger", "ai-gateway", "cors", "jwt-auth", "rate-limit"],
      ...["request-validation", "response-rewrite"],
    ];
    assert.deepEqual(
      filesIn(out),
      names.map((name) => `${name}.lua`),
    );
    assert.equal(stdout, names.map((name) => `wrote     ${luaFileOf(out, name)}\n`).join(""));
    const captured = loadInLua(...names.map((name) => luaFileOf(out, name)));
    const told = captured.map(({ schema, ...rest }) => {
      assert.equal((JSON.parse(schema) as { type: string }).type, "object");
      return rest;
    });
    const plugin = (name: string, priority: number, ...phases: string[]) => ({
      ...{ name, plugin: name, version: "1.0.0", priority, phases },
    });
    assert.deepEqual(told, [
      plugin("ab-upstream", 1000, "access"),
      plugin("access-logger", 400, "log"),
      { ...plugin("ai-gateway", 0, "access"), content: true },
      plugin("cors", 4000, "rewrite"),
      plugin("jwt-auth", 2510, "access"),
      plugin("rate-limit", 1001, "access"),
      plugin("request-validation", 2800, "access"),
      plugin("response-rewrite", 899, "header_filter", "body_filter"),
    ]);
    const text = readFileSync(luaFileOf(out, "ai-gateway"), "utf8");
    assert.match(text, /^-- Written by `resty-ts apisix generate` from ai-gateway\/index\.ts: /);
  });

  test("has the schema as JSON, with what APISIX fills in not required", async (t) => {
    const out = folderOf(t);
    await generate(EXAMPLES, out, "rate-limit");
    const schema = loadInLua(luaFileOf(out, "rate-limit"))[0]?.schema ?? "";
    const { required, properties } = JSON.parse(schema) as {
      required: string[];
      properties: Record<string, { default?: unknown }>;
    };
    assert.deepEqual(required, ["limit"]);
    assert.ok(Object.values(properties).some((each) => each.default !== undefined));
  });

  test("has what a plugin says to APISIX alone, also without a handler", async (t) => {
    const rest = `apisix: { controlApi: [{ methods: ["GET"], uris: ["/v1/plugin/x"], handler: () =>
      new Response() }], encryptFields: ["key"], consumerSchema: { properties: { key: {} } } }`;
    const plugins = folderOf(t, {
      "x.ts": pluginText("x", rest),
      "wrong.ts": pluginText("wrong", 'log() {}, apisix: { type: "author" }'),
    });
    const out = folderOf(t);
    const { code, stderr } = await generate(plugins, out);
    assert.equal(code, 1);
    assert.match(stderr, /^error: wrong\.ts: .*apisix\.type is "auth"\n$/);
    const { schema, consumer_schema, ...told } = loadInLua(luaFileOf(out, "x"))[0]!;
    assert.deepEqual(told, {
      ...{ name: "x", plugin: "x", version: "0.0.0", priority: 0, phases: {}, worker: true },
      control_api: [{ methods: ["GET"], uris: ["/v1/plugin/x"] }],
    });
    assert.deepEqual(JSON.parse(schema), { type: "object", additionalProperties: false });
    assert.deepEqual(JSON.parse(consumer_schema as string), {
      ...{ properties: { key: {} }, encrypt_fields: ["key"] },
    });
  });

  test("--prefix stands before the name in APISIX, and not before TypeScript's", async (t) => {
    const out = folderOf(t);
    const { code, stderr } = await generate(EXAMPLES, out, "--prefix", "ts-", "jwt-auth", "cors");
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.deepEqual(filesIn(out), ["ts-cors.lua", "ts-jwt-auth.lua"]);
    const captured = loadInLua(luaFileOf(out, "ts-cors"))[0];
    assert.deepEqual([captured?.name, captured?.["plugin"]], ["ts-cors", "cors"]);
  });

  test("says on stderr which plugin takes the place of APISIX's own", async (t) => {
    const out = folderOf(t);
    const { code, stderr } = await generate(EXAMPLES, out, "jwt-auth", "rate-limit");
    assert.equal(code, 0);
    const lines = stderr.trimEnd().split("\n");
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? "", /^warning: .*jwt-auth\.lua: .* its own.* --prefix ts- /);
  });

  test("touches no file that is as it should be, and --check writes none", async (t) => {
    const plugins = folderOf(t, { "a.ts": pluginText("a"), "b.ts": pluginText("b") });
    const out = folderOf(t);
    const missing = await generate(plugins, out, "--check");
    assert.deepEqual([missing.code, existsSync(join(out, "apisix"))], [1, false]);
    assert.match(missing.stdout, /^differs {3}.*a\.lua\ndiffers {3}.*b\.lua\n$/);

    await generate(plugins, out);
    const long = new Date(0);
    utimesSync(luaFileOf(out, "a"), long, long);
    assert.equal((await generate(plugins, out, "--check")).code, 0);

    writeFileSync(join(plugins, "b.ts"), pluginText("b", "rewrite() {}"));
    const before = readFileSync(luaFileOf(out, "b"), "utf8");
    const differs = await generate(plugins, out, "--check");
    assert.equal(differs.code, 1);
    assert.match(differs.stdout, /^unchanged .*a\.lua\ndiffers {3}.*b\.lua\n$/);
    assert.equal(readFileSync(luaFileOf(out, "b"), "utf8"), before);

    const changed = await generate(plugins, out);
    assert.match(changed.stdout, /^unchanged .*a\.lua\nwrote {5}.*b\.lua\n$/);
    assert.equal(statSync(luaFileOf(out, "a")).mtimeMs, 0);
    assert.notEqual(readFileSync(luaFileOf(out, "b"), "utf8"), before);
    assert.deepEqual(filesIn(out), ["a.lua", "b.lua"]);
  });

  test("--json prints a list, and what a plugin prints does not get into it", async (t) => {
    const noisy = `console.log("loaded");\nsetInterval(() => {}, 1000);\n${pluginText("noisy")}`;
    const plugins = folderOf(t, { "noisy.ts": noisy });
    const out = folderOf(t);
    const { code, stdout, stderr } = await generate(plugins, out, "--json", "--prefix", "ts-");
    assert.equal(code, 0);
    assert.equal(stderr, "loaded\n");
    const file = luaFileOf(out, "ts-noisy");
    const list = [{ plugin: "noisy", name: "ts-noisy", file, changed: true }];
    assert.deepEqual(JSON.parse(stdout), list);
  });

  test("a plugin that is wrong keeps no other from its file, and all problems are told", async (t) => {
    const plugins = folderOf(t, {
      "bad-name.ts": pluginText("other"),
      "broken.ts": "export default {\n",
      "folder/index.ts": pluginText("folder", "schema: { unevaluatedProperties: false }, log() {}"),
      "good.ts": pluginText("good"),
      "none/readme.md": "no index: no plugin",
      "Upper.ts": "no plugin's name",
      "throws.js": 'throw new Error("no database");\n',
      "zod.ts":
        `const schema = { "~standard": { version: 1, vendor: "zod", validate: () => ({}) } };\n` +
        pluginText("zod", "schema, access() {}"),
    });
    const out = folderOf(t);
    const { code, stdout, stderr } = await generate(plugins, out);
    assert.equal(code, 1);
    assert.deepEqual(filesIn(out), ["good.lua"]);
    assert.equal(stdout, `wrote     ${luaFileOf(out, "good")}\n`);
    const expected = [
      /^error: bad-name\.ts: .*its name is "other"/,
      /^error: broken\.ts: .*broken\.ts:\d+:\d+: /,
      /^error: folder\/index\.ts: schema: .*unevaluatedProperties: put all properties into one/,
      /^error: throws\.js: .*no database/,
      /^error: zod\.ts: schema: .* of zod .*give it as TypeBox/,
    ];
    const lines = stderr.trimEnd().split("\n");
    assert.equal(lines.length, expected.length, stderr);
    expected.forEach((pattern, i) => {
      assert.match(lines[i] ?? "", pattern);
    });
  });

  test("a plugin is found by every ending that the host knows, also as a folder's index", async (t) => {
    const esm = 'export default { name: "NAME", access() {} };\n';
    const endings = ["ts", "mts", "js", "mjs"];
    const files = endings.flatMap((ending) => [
      [`f-${ending}.${ending}`, esm.replace("NAME", `f-${ending}`)],
      [`d-${ending}/index.${ending}`, esm.replace("NAME", `d-${ending}`)],
    ]);
    const cjs = 'module.exports = { name: "f-cjs", access() {} };\n';
    const plugins = folderOf(t, {
      ...(Object.fromEntries(files) as Record<string, string>),
      "f-cjs.cjs": cjs,
      "package.json": '{ "type": "module" }',
    });
    const out = folderOf(t);
    const { code, stderr } = await generate(plugins, out);
    assert.equal(code, 0, stderr);
    assert.equal(filesIn(out).length, files.length + 1);
  });

  test("one for the JavaScript runner has no file: the hooks take it", async (t) => {
    const say = "module.exports = class { filter() {} };\n";
    const plugins = folderOf(t, { "good.ts": pluginText("good"), "say.cjs": say });
    const out = folderOf(t);
    const all = await generate(plugins, out);
    assert.equal(all.code, 0);
    assert.match(
      all.stderr,
      /^warning: say\.cjs: .*JavaScript runner.*list it in ts-plugin-pre-req/,
    );
    assert.deepEqual(filesIn(out), ["good.lua"]);
    const named = await generate(plugins, out, "say");
    assert.equal(named.code, 1);
    assert.match(named.stderr, /^error: say\.cjs: .*JavaScript runner/);
  });

  test("one that ends the process while it is loaded is told, and is no success", async (t) => {
    const plugins = folderOf(t, {
      "exits.ts": `process.exit(0);\n${pluginText("exits")}`,
      "waits.ts": `await new Promise(() => {});\n${pluginText("waits")}`,
    });
    for (const name of ["exits", "waits"]) {
      const { code, stderr } = await generate(plugins, folderOf(t), name);
      assert.equal(code, 1);
      assert.match(stderr, new RegExp(`^error: ${name}: `));
    }
  });

  test("a file that it has not written is left alone", async (t) => {
    const out = folderOf(t, { "apisix/plugins/cors.lua": "-- APISIX's\n" });
    const { code, stderr } = await generate(EXAMPLES, out, "cors");
    assert.equal(code, 1);
    assert.match(stderr, /cors\.lua was not written by this command/);
    assert.equal(readFileSync(luaFileOf(out, "cors"), "utf8"), "-- APISIX's\n");
  });

  test("a folder for files that cannot be one is told", async (t) => {
    const out = folderOf(t, { apisix: "a file" });
    const { code, stderr } = await generate(EXAMPLES, out, "cors");
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^error: cors\.ts: .* cannot be written \(ENOTDIR.*: give another --out\n$/,
    );
  });

  test("names that cannot be APISIX's are told", async (t) => {
    const plugins = folderOf(t, { "pre-req.ts": pluginText("pre-req") });
    for (const [prefix, pattern] of [
      ["ts-plugin-", /ts-plugin-pre-req is the name of a file of resty-ts itself/],
      ["../", /"\.\.\/pre-req" cannot be a plugin's name/],
      ["a.b", /"a\.bpre-req" cannot be a plugin's name/],
    ] as const) {
      const { code, stderr } = await generate(plugins, folderOf(t), "--prefix", prefix);
      assert.equal(code, 1);
      assert.match(stderr, pattern);
    }
  });

  test("a plugin that is not there is told, and which are", async (t) => {
    const { code, stderr } = await generate(EXAMPLES, folderOf(t), "nope");
    assert.equal(code, 1);
    assert.match(stderr, /^error: nope: there is no plugin nope in .*cors/);
  });
});
