/** examples/apisix: what its Dockerfile generates, its configuration and its routes fit together. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { isApisixOwn } from "../../../src/cli/apisix/names.ts";
import { PROJECT_ROOT } from "../../support/project.js";
import { folderOf, runCli } from "./support.js";

const read = (name: string): string =>
  readFileSync(join(PROJECT_ROOT, "examples", "apisix", name), "utf8");

/** What stands between two lines of a YAML file, or up to its end. */
function section(text: string, from: RegExp, to = /(?!)/): string {
  const lines = text.split("\n");
  const start = lines.findIndex((line) => from.test(line)) + 1;
  assert.ok(start > 0, `no ${String(from)}`);
  const end = lines.findIndex((line, i) => i >= start && to.test(line));
  return lines.slice(start, end < 0 ? undefined : end).join("\n");
}

const namesIn = (text: string, pattern: RegExp): string[] => [
  ...new Set([...text.matchAll(pattern)].map(([, name]) => name ?? "")),
];

describe("examples/apisix", () => {
  const dockerfile = read("Dockerfile").replaceAll("\\\n", " ");

  test("its files are there for the plugins that its configuration names", async (t) => {
    const out = folderOf(t);
    const commands = [...dockerfile.matchAll(/main\.js (apisix generate [^&\n]+)/g)].map(
      ([, args = ""]) => args.trim().split(/\s+/),
    );
    assert.ok(commands.length > 0);
    const copied = /cp -r ([^&/]+) \/opt\/resty-ts\/plugins\//.exec(dockerfile)?.[1]?.split(/\s+/);
    const plugins = join(PROJECT_ROOT, "examples", "plugins");
    for (const args of commands) {
      const here = args.map((arg) => ({ plugins, generated: out })[arg] ?? arg);
      const { code, stderr } = await runCli(...here);
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      for (const name of args.slice(args.findLastIndex((arg) => /^(-|generated)/.test(arg)) + 1)) {
        const isCopied = copied?.some((each) => [name, `${name}.ts`].includes(each)) ?? false;
        assert.ok(isCopied || name === "ts-", `${name} is not copied`);
      }
    }

    const generated = readdirSync(join(out, "apisix", "plugins"));
    const config = section(read("conf/config.yaml"), /^plugins:/, /^\S/);
    const enabled = namesIn(config, /^ {2}- ([a-z-]+)$/gm);
    for (const name of enabled) {
      const own = join(PROJECT_ROOT, "lua", "apisix", "plugins", `${name}.lua`);
      assert.ok(generated.includes(`${name}.lua`) || existsSync(own) || isApisixOwn(name), name);
    }
    for (const file of generated) assert.ok(enabled.includes(file.replace(/\.lua$/, "")), file);
    const routes = section(read("conf/apisix.yaml"), /^routes:/, /^upstreams:/);
    const used = namesIn(routes, /^ {6}([a-z-]+):$/gm);
    assert.deepEqual(
      used.filter((name) => !enabled.includes(name)),
      [],
    );
    assert.deepEqual([...used].sort(), generated.map((file) => file.replace(/\.lua$/, "")).sort());
  });

  test("the folders of its image are where its configuration looks", () => {
    const config = read("conf/config.yaml");
    const folders = [...config.matchAll(/\/opt\/resty-ts\/(\w+)/g)].map(([, name]) => name ?? "");
    for (const folder of ["lua", "generated", "lib", "plugins"]) {
      assert.ok(folders.includes(folder), folder);
      assert.match(dockerfile, new RegExp(`\\b${folder}\\b`));
    }
    assert.match(read("conf/apisix.yaml"), /\n#END\n$/);
  });
});
