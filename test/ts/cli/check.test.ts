/** `resty-ts check` as it is run: what it finds in plugins, their types and their configurations. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { PROJECT_ROOT } from "../../support/project.js";
import type { CheckReport } from "../../../src/cli/check/check.js";
import { folderOf, installInto, pluginText, runCli } from "./support.js";

const EXAMPLES = join(PROJECT_ROOT, "examples", "plugins");
const LIMITED = pluginText(
  "limited",
  `schema: Type.Object({ limits: Type.Array(Type.Object({ max: Type.Integer({ minimum: 1 }) })) },
    { additionalProperties: false }), access() {}`,
).replace("{ definePlugin }", "{ definePlugin, Type }");

/** A project with TypeScript. */
function projectOf(t: TestContext, files: Readonly<Record<string, string>>): string {
  const folder = folderOf(t, files);
  installInto(folder, "resty-ts", "typescript", "@types/node");
  return folder;
}

const check = (folder: string, ...more: string[]) =>
  runCli("check", "--plugins", join(folder, "plugins"), ...more);

const problemsOf = (stderr: string): string[] =>
  stderr
    .trimEnd()
    .split("\n")
    .map((line) => line.replace(/^error: /, ""));

describe("resty-ts check", () => {
  test("finds nothing wrong with the examples", async () => {
    const { code, stdout, stderr } = await runCli("check", "--plugins", EXAMPLES);
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.match(stdout, /^loads {5}jwt-auth \(.*examples\/plugins\/jwt-auth\.ts\)$/m);
    assert.match(stdout, /\n8 plugins, 0 configurations: 0 problems\n$/);
  });

  test("tells what TypeScript finds, with file, line and column, and what does not load", async (t) => {
    const folder = projectOf(t, {
      "plugins/typed.ts": pluginText("typed", "access(ctx) { const n: number = ctx.nope; }"),
      "plugins/throws.js": 'throw new Error("no database");\n',
      "plugins/name.ts": pluginText("other"),
      "plugins/good.ts": pluginText("good"),
    });
    const { code, stdout, stderr } = await check(folder);
    assert.equal(code, 1);
    const told = problemsOf(stderr).join("\n");
    assert.match(told, /plugins\/typed\.ts:2:\d+: TS2339: Property 'nope' does not exist/);
    assert.match(told, /plugins\/throws\.js: .*no database/);
    assert.match(told, /plugins\/name\.ts: .*its name is "other", and its file is name/);
    assert.doesNotMatch(told, /good\.ts/);
    assert.match(stdout, /^loads {5}good /m);
  });

  test("leaves types to others with --no-types", async (t) => {
    const folder = projectOf(t, {
      "plugins/typed.ts": pluginText("typed", "access(ctx) { const n: number = ctx.nope; }"),
    });
    const { code, stdout, stderr } = await check(folder, "--no-types", "--json");
    assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
    assert.equal((JSON.parse(stdout) as { typesChecked: boolean }).typesChecked, false);
  });

  test("tells where a file is no TypeScript", async (t) => {
    const folder = projectOf(t, { "plugins/broken.ts": "export default {\n" });
    const { code, stderr } = await check(folder);
    assert.equal(code, 1);
    assert.match(stderr, /plugins\/broken\.ts: .*broken\.ts:2:1: Expected identifier/);
    assert.match(stderr, /plugins\/broken\.ts:2:1: TS1005: /);
  });

  test("takes the project's tsconfig.json, and says which plugin is not in it", async (t) => {
    const loose = pluginText("loose", "access(ctx) { function f(x) { return x; } f(ctx); }");
    const folder = projectOf(t, {
      "tsconfig.json": JSON.stringify({
        compilerOptions: { module: "nodenext", target: "es2022", noEmit: true, skipLibCheck: true },
        include: ["plugins/loose.ts"],
      }),
      "plugins/loose.ts": loose,
      "plugins/left.ts": pluginText("left"),
    });
    const { code, stderr } = await check(folder);
    assert.equal(code, 0, stderr);
    assert.match(
      stderr,
      /^warning: .*left\.ts: its types were not checked: add it to "include" of /,
    );
  });

  test("says that types were left out where the project has no TypeScript", async (t) => {
    const folder = folderOf(t, { "plugins/good.ts": pluginText("good") });
    const { code, stdout, stderr } = await check(folder, "--json");
    assert.equal(code, 0);
    assert.match(
      stderr,
      /^warning: types were not checked: .*npm install --save-dev typescript\n$/,
    );
    assert.equal((JSON.parse(stdout) as CheckReport).typesChecked, false);
  });

  const wrongConfigurations: Record<string, { text: string; tells: RegExp[] }> = {
    "a map, in YAML": {
      text: "limited:\n  limits:\n    - max: 0\n    - { max: many }\n  colour: red\n",
      tells: [
        /: limited: colour is not an option/,
        /: limited: limits\[0\]\.max must be >= 1/,
        /: limited: limits\[1\]\.max must be integer, not "many"/,
      ],
    },
    "a list, in JSON": {
      text: '[{ "name": "limited", "conf": {} }, ["limited", { "limits": 1 }]]',
      tells: [/: \[0\]\.conf: limits is missing/, /: \[1\]\[1\]: limits must be array, not 1/],
    },
    "APISIX's, below plugins at any depth": {
      text: `routes:
  - uri: /a
    plugins: { limited: { limits: [{ max: 1 }], _meta: { disable: false } }, key-auth: {} }
  - uri: /b
    plugins: { limited: { limits: 3 }, mine: {} }
#END
`,
      tells: [
        /: routes\[1\]\.plugins\.limited: limits must be array/,
        /: routes\[1\]\.plugins\.mine: there is no plugin mine \(limited, other\)/,
      ],
    },
    "a hook's list of texts": {
      text: `plugins:
  ts-plugin-pre-req: { conf: [{ name: limited, value: '{"limits":[{"max":0}]}' }] }
`,
      tells: [/: plugins\.ts-plugin-pre-req\.conf\[0\]\.value: limits\[0\]\.max must be >= 1/],
    },
    "for a plugin that takes none": {
      text: "other: { a: 1 }\n",
      tells: [/: other: the plugin has no schema, so it takes no configuration/],
    },
    "neither JSON nor YAML": {
      text: '{\n  "limited": {,}\n',
      tells: [/:2:\d+: it is neither JSON nor YAML: /],
    },
    "of no plugin": { text: "5\n", tells: [/: no plugin's configuration is in it/] },
  };
  for (const [title, { text, tells }] of Object.entries(wrongConfigurations)) {
    test(`tells what is wrong with a configuration: ${title}`, async (t) => {
      const folder = folderOf(t, {
        "plugins/limited.ts": LIMITED,
        "plugins/other.ts": pluginText("other"),
        "conf.yaml": text,
      });
      const file = join(folder, "conf.yaml");
      const { code, stderr } = await check(folder, "--conf", file);
      assert.equal(code, 1);
      const problems = problemsOf(stderr).filter((line) => !line.startsWith("warning: "));
      assert.equal(problems.length, tells.length, stderr);
      for (const pattern of tells) {
        const found = problems.some((line) => line.startsWith(file) && pattern.test(line));
        assert.ok(found, `${String(pattern)} is not in\n${stderr}`);
      }
    });
  }

  test("validates configurations by names with a prefix, and only those of plugins that are named", async (t) => {
    const conf = "ts-limited: { limits: [{ max: 2 }] }\nts-other: { wrong: 1 }\n";
    const folder = folderOf(t, {
      "plugins/limited.ts": LIMITED,
      "plugins/other.ts": pluginText("other"),
      "conf.yaml": conf,
    });
    const args = ["--prefix", "ts-", "--conf", join(folder, "conf.yaml"), "--json"];
    const { code, stdout } = await check(folder, ...args, "limited");
    const { plugins, configurations, problems } = JSON.parse(stdout) as CheckReport;
    assert.deepEqual(
      { code, names: plugins.map(({ name }) => name), configurations, problems },
      { code: 0, names: ["limited"], configurations: 1, problems: [] },
    );
    const all = await check(folder, ...args);
    assert.equal(all.code, 1);
    assert.match(all.stderr, /conf\.yaml: ts-other: the plugin has no schema/);
  });

  test("a file that cannot be read is a mistake of the command line", async (t) => {
    const folder = folderOf(t, { "plugins/good.ts": pluginText("good") });
    const { code, stderr } = await check(folder, "--conf", join(folder, "none.yaml"));
    assert.equal(code, 2);
    assert.match(stderr, /^--conf .*none\.yaml cannot be read: ENOENT/m);
  });
});
