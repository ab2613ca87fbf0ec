/** docs/plugins.md: its TypeScript compiles, and what it says is refused is refused. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { before, describe, test } from "node:test";
import { definePlugin, type Plugin, type RequestContext } from "../../../src/sdk/index.ts";
import { testPlugin } from "../../../src/testing/index.ts";
import { PROJECT_ROOT } from "../../support/project.js";
import { blocksOf, readDoc, tableBelow } from "./markdown.js";
import { compile, moduleOf } from "./snippets.js";

const text = readDoc("plugins.md");

describe("docs/plugins.md", () => {
  const snippets = blocksOf(text).filter(({ language }) => language === "ts");

  test("its TypeScript compiles", () => {
    assert.ok(snippets.length > 5);
    const folder = join(PROJECT_ROOT, "test", "integration", "guide");
    const sources = snippets.map(({ text: code, line }): [string, string] => [
      join(folder, `line-${line}.ts`),
      moduleOf(code),
    ]);
    const readme = readFileSync(join(PROJECT_ROOT, "README.md"), "utf8");
    const [shown = ""] = /^ {4}import \{ definePlugin[^]*?^ {4}\}\);$/m.exec(readme) ?? [];
    assert.match(shown, /export default/);
    sources.push([join(folder, "readme.ts"), shown]);
    assert.deepEqual(compile(new Map(sources)), []);
  });

  test("the table of options has all that definePlugin takes", () => {
    const [, ...rows] = tableBelow(text, "## A plugin's file");
    const named = rows.flatMap(([cell = ""]) =>
      [...cell.matchAll(/`(\w+)/g)].map(([, name]) => name),
    );
    const all: Record<keyof Plugin, true> = {
      ...{ name: true, version: true, priority: true, schema: true, needs: true, policies: true },
      ...{
        phases: true,
        bufferResponse: true,
        responseHeaders: true,
        setup: true,
        teardown: true,
        handoff: true,
        idempotent: true,
        apisix: true,
        rewrite: true,
      },
      ...{ access: true, beforeProxy: true, content: true, headerFilter: true, bodyFilter: true },
      ...{ delayedBodyFilter: true, log: true },
    };
    assert.deepEqual([...new Set(named)].sort(), Object.keys(all).sort());
  });

  describe("what is refused", () => {
    const [, ...rows] = tableBelow(text, "## What is refused");
    let refused: (code: string) => Promise<string | undefined>;

    before(() => {
      refused = async (code) => {
        // eslint-disable-next-line @typescript-eslint/no-implied-eval -- the document's own code
        const act = new Function("ctx", code) as (ctx: RequestContext) => void;
        let caught: string | undefined;
        const kit = await testPlugin(
          definePlugin({
            name: "refused",
            access(ctx) {
              try {
                act(ctx);
              } catch (error) {
                caught = (error as { code?: string }).code;
              }
            },
          }),
        );
        await kit.request();
        await kit.close();
        return caught;
      };
    });

    for (const [cell = "", why = ""] of rows) {
      const code = cell.slice(1, -1);
      test(`${code}: ${why}`, async () => {
        assert.equal(await refused(code), "bad_response");
      });
      if (!why.startsWith("hop-by-hop")) continue;
      for (const name of why.replace(/^.*: /, "").split(", ")) {
        test(`the hop-by-hop field ${name}`, async () => {
          assert.equal(await refused(code.replace("connection", name)), "bad_response");
        });
      }
    }
  });
});
