/** docs/apisix and docs/cli.md: TypeScript compiles, and options that are named are there. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { checkDefinition } from "../../../src/http/definition.ts";
import { takesText } from "../../../src/http/runner.ts";
import { PROJECT_ROOT } from "../../support/project.js";
import { blocksOf, readDoc, tableBelow } from "./markdown.js";
import { compile, moduleOf } from "./snippets.js";

/** What stands between backquotes in a table's first column. */
const named = (rows: readonly string[][]): string[] =>
  rows
    .slice(1)
    .flatMap(([cell = ""]) => [...cell.matchAll(/`([^`]+)`/g)].map((match) => match[1]!));

describe("docs/apisix", () => {
  test("its TypeScript compiles", () => {
    const sources = new Map<string, string>();
    for (const file of readdirSync(join(PROJECT_ROOT, "docs", "apisix"))) {
      for (const { language, text, line } of blocksOf(readDoc(join("apisix", file)))) {
        if (language !== "ts") continue;
        const name = `${file.replace(".md", "")}-line-${line}.ts`;
        sources.set(join(PROJECT_ROOT, "test", "integration", "guide", name), moduleOf(text));
      }
    }
    assert.ok(sources.size >= 2);
    assert.deepEqual(compile(sources), []);
  });

  test("the runner's plugin that is shown is one", () => {
    const blocks = blocksOf(readDoc("apisix/migrate-ext-plugin.md"));
    const { text = "" } = blocks.find(({ language }) => language === "js") ?? {};
    const module = { exports: undefined };
    // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the document's own code
    const load = new Function("module", text) as (target: typeof module) => void;
    load(module);
    assert.ok(takesText(checkDefinition(module.exports, "say")));
  });

  test("the options of plugin_attr are those of ts.start", () => {
    const all = named(tableBelow(readDoc("lua-api.md"), "## ts.start(options)"));
    const told = named(tableBelow(readDoc("apisix/install.md"), "### plugin_attr.resty-ts"));
    assert.ok(told.length > 5);
    for (const name of told) assert.ok(all.includes(name), name);
  });

  test("the configuration that is shown is the example's", () => {
    const [shown] = blocksOf(readDoc("apisix/install.md")).filter(
      ({ language }) => language === "yaml",
    );
    const example = readFileSync(join(PROJECT_ROOT, "examples/apisix/conf/config.yaml"), "utf8");
    const paths = (text: string): string[] => text.match(/\/opt\/resty-ts\/\S+/g) ?? [];
    assert.deepEqual(paths(shown?.text ?? ""), paths(example));
  });
});

describe("docs/cli.md", () => {
  test("has each option of generate, and no other", () => {
    const cli = join(PROJECT_ROOT, "dist/cli/main.js");
    const help = execFileSync(process.execPath, [cli, "apisix", "generate", "--help"], {
      encoding: "utf8",
    });
    const options = (text: string): string[] => text.match(/--[a-z]+/g) ?? [];
    const listed = [...help.matchAll(/^ {2}(--[a-z]+)/gm)].map((match) => match[1]!);
    const rows = tableBelow(readDoc("cli.md"), "## resty-ts apisix generate");
    assert.deepEqual(named(rows).flatMap(options), listed);
  });
});
