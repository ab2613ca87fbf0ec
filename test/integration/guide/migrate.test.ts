/** docs/migrate-*.md: TypeScript compiles; the plugins do what the pages say that they do. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import type { PluginDefinition } from "resty-ts";
import { testPlugin } from "resty-ts/testing";
import { PROJECT_ROOT } from "../../support/project.js";
import { blocksOf, readDoc } from "./markdown.js";
import { compile } from "./snippets.js";

type Definition = PluginDefinition<unknown, unknown>;

/** The page's one plugin. */
function pluginIn(doc: string): string {
  const [text, ...others] = blocksOf(readDoc(doc))
    .filter(({ language }) => language === "ts")
    .map((block) => block.text);
  assert.ok(text !== undefined && others.length === 0, `${doc}: one TypeScript block is expected`);
  return text;
}

for (const doc of ["migrate-njs.md", "migrate-kong.md"]) {
  test(`docs/${doc}: its TypeScript compiles`, () => {
    const file = join(PROJECT_ROOT, "test", `${doc}.ts`);
    assert.deepEqual(compile(new Map([[file, pluginIn(doc)]])), []);
  });
}

describe("the plugins of these pages", () => {
  async function load(doc: string): Promise<Definition> {
    // In the project, where "resty-ts" is the sources.
    const folder = join(PROJECT_ROOT, "build-test", "migrate");
    const file = join(folder, `${doc}.ts`);
    mkdirSync(folder, { recursive: true });
    writeFileSync(file, pluginIn(doc));
    try {
      return ((await import(pathToFileURL(file).href)) as { default: Definition }).default;
    } finally {
      rmSync(file);
    }
  }

  test("the one that was Kong's lets those in who have the key", async () => {
    const kit = await testPlugin(await load("migrate-kong.md"), { key: "k" });
    const refused = await kit.request();
    assert.equal(refused.response.status, 401);
    assert.equal(refused.response.text(), "unknown key");
    const { upstreamRequest } = await kit.request({ headers: { "x-key": "k" } });
    assert.equal(upstreamRequest?.headers.get("x-user"), "ada");
    await kit.close();
  });

  test("the one that was njs's asks another service first", async () => {
    const server = createServer((request, response) => {
      response.statusCode = request.headers.authorization === "good" ? 200 : 401;
      response.setHeader("x-user", "ada").end();
    }).listen(0, "127.0.0.1");
    await new Promise((resolve) => server.once("listening", resolve));
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/check`;
    const kit = await testPlugin(await load("migrate-njs.md"), { url });
    assert.equal((await kit.request()).response.status, 403);
    const { upstreamRequest } = await kit.request({ headers: { authorization: "good" } });
    assert.equal(upstreamRequest?.headers.get("x-user"), "ada");
    await kit.close();
    server.closeAllConnections();
    server.close();
  });
});
