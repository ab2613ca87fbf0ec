/** `resty-ts build` as it is run: what it writes, and what stays outside of it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { PROJECT_ROOT } from "../../support/project.js";
import type { BuildManifest } from "../../../src/cli/build/manifest.js";
import { folderOf, pluginText, runCli } from "./support.js";

const EXAMPLES = join(PROJECT_ROOT, "examples", "plugins");

const build = (plugins: string, out: string, ...more: string[]) =>
  runCli("build", "--plugins", plugins, "--out", out, ...more);

const manifestOf = (out: string): BuildManifest =>
  JSON.parse(readFileSync(join(out, "manifest.json"), "utf8")) as BuildManifest;

describe("resty-ts build", () => {
  test("makes one file of each example, with its source map and what it is", async (t) => {
    const out = join(folderOf(t), "out");
    const { code, stdout, stderr } = await build(EXAMPLES, out);
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.match(stdout, /^built {5}cors\.mjs \(rewrite\)$/m);
    const { plugins, external } = manifestOf(out);
    assert.deepEqual(external, {});
    for (const { file, sha256 } of plugins) {
      const code = readFileSync(join(out, file));
      assert.equal(createHash("sha256").update(code).digest("hex"), sha256);
      assert.match(code.toString(), new RegExp(`\\n//# sourceMappingURL=${file}\\.map\\n$`));
      assert.ok(existsSync(join(out, `${file}.map`)));
      // Nothing of npm's is left: all that is imported is Node's own.
      assert.doesNotMatch(code.toString(), /^import .* from "(?!node:)[a-z@][^"]*";$/m);
    }
    const jwt = plugins.find(({ name }) => name === "jwt-auth");
    const { schema, sha256, ...rest } = jwt!;
    assert.equal((schema as { type: string }).type, "object");
    assert.equal(sha256.length, 64);
    assert.deepEqual(rest, {
      ...{ name: "jwt-auth", version: "1.0.0", priority: 2510, phases: ["access"] },
      ...{ needs: { vars: [], ctx: [] }, file: "jwt-auth.mjs", external: [] },
    });
  });

  test("makes the same bytes again, and takes away what is no plugin any more", async (t) => {
    const plugins = folderOf(t, { "a.ts": pluginText("a"), "b.ts": pluginText("b") });
    const out = join(folderOf(t), "out");
    await build(plugins, out);
    const read = (): string[] =>
      readdirSync(out).map((name) => readFileSync(join(out, name), "utf8"));
    const before = read();
    assert.equal((await build(plugins, out)).code, 0);
    assert.deepEqual(read(), before);
    assert.equal((await build(plugins, out, "b")).code, 0);
    assert.deepEqual(readdirSync(out).sort(), ["b.mjs", "b.mjs.map", "manifest.json"]);
  });

  const native = (name: string, manifest: object, files: Readonly<Record<string, string>>) =>
    Object.entries({
      "package.json": JSON.stringify({ name, version: "1.2.3", ...manifest }),
      ...files,
    }).map(([file, text]) => [`node_modules/${name}/${file}`, text] as const);

  test("leaves native packages outside, and names them", async (t) => {
    const project = folderOf(t, {
      ...Object.fromEntries([
        ...native("by-gyp", {}, { "binding.gyp": "{}", "index.js": "module.exports = 1;\n" }),
        ...native("@own/by-file", {}, { "index.js": 'module.exports = require("./x.node");\n' }),
        ...native("pure", {}, { "index.js": 'module.exports = require("by-gyp");\n' }),
      ]),
      "node_modules/@own/by-file/x.node": "",
      "plugins/uses.js":
        'const all = [require("pure"), () => require("@own/by-file")];\n' +
        'module.exports = { name: "uses", access() { return all; } };\n',
    });
    const out = join(folderOf(t), "out");
    const { code, stdout, stderr } = await build(join(project, "plugins"), out);
    assert.equal(code, 0, stderr);
    assert.match(
      stdout,
      /^built {5}uses\.mjs \(access; imports @own\/by-file, by-gyp \(native\)\)$/m,
    );
    assert.match(
      stdout,
      /^external {2}@own\/by-file@1\.2\.3, by-gyp@1\.2\.3: run `npm install` in /m,
    );
    const external = { "@own/by-file": "1.2.3", "by-gyp": "1.2.3" };
    assert.deepEqual(manifestOf(out).external, external);
    const { dependencies } = JSON.parse(readFileSync(join(out, "package.json"), "utf8")) as {
      dependencies: unknown;
    };
    assert.deepEqual(dependencies, external);
    const text = readFileSync(join(out, "uses.mjs"), "utf8");
    assert.match(text, /require\("@own\/by-file"\)/);
    assert.doesNotMatch(text, /require\("pure"\)/);
  });

  test("writes nothing while a plugin is wrong, and tells all that are", async (t) => {
    const plugins = folderOf(t, {
      "good.ts": pluginText("good"),
      "broken.ts": "export default {\n",
      "gone.ts": `import "./nowhere.ts";\n${pluginText("gone")}`,
      "own.js": 'module.exports = { name: "own", access() { require("./own.node"); } };\n',
    });
    const out = join(folderOf(t), "out");
    const { code, stdout, stderr } = await build(plugins, out);
    assert.deepEqual({ code, stdout }, { code: 1, stdout: "" });
    assert.match(stderr, /^error: .*broken\.ts: .*broken\.ts:2:1: /m);
    assert.match(stderr, /^error: .*gone\.ts: .*gone\.ts:1:\d+: Could not resolve/m);
    assert.match(stderr, /^error: .*own\.js: .*own\.js:1:\d+: .*make it a package/m);
    assert.ok(!existsSync(out));
  });

  test("writes over nothing that it has not made", async (t) => {
    const plugins = folderOf(t, { "a.ts": pluginText("a") });
    const out = folderOf(t, { "manifest.json": "{}", "a.mjs": "mine" });
    const other = await build(plugins, out);
    assert.equal(other.code, 2);
    assert.match(other.stderr, /is not empty, and was not made by this command/);
    assert.equal(readFileSync(join(out, "a.mjs"), "utf8"), "mine");
    const same = await build(plugins, plugins);
    assert.equal(same.code, 2);
    assert.match(same.stderr, /has the plugins' sources in it/);
  });

  test("--json prints the manifest that it writes", async (t) => {
    const plugins = folderOf(t, { "a.ts": pluginText("a") });
    const out = join(folderOf(t), "out");
    const { stdout } = await build(plugins, out, "--json");
    assert.deepEqual(JSON.parse(stdout), manifestOf(out));
    writeFileSync(join(plugins, "a.ts"), pluginText("a", "log() {}"));
    await build(plugins, out);
    assert.deepEqual(manifestOf(out).plugins[0]?.phases, ["log"]);
    writeFileSync(join(plugins, "a.ts"), pluginText("a", "log() {}, responseHeaders: () => ({})"));
    await build(plugins, out);
    assert.deepEqual(manifestOf(out).plugins[0]?.phases, ["header_filter", "log"]);
  });
});
