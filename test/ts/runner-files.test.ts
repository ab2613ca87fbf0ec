/** Files of the community's JavaScript runner in the folder of plugins, however they export. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { ModuleLoader } from "../../src/host/modules.ts";
import { PluginLoader } from "../../src/host/plugins.ts";
import { testPlugin } from "../../src/testing/index.ts";

const folder = mkdtempSync(join(tmpdir(), "resty-ts-test-"));
after(() => {
  rmSync(folder, { recursive: true, force: true });
});
const loader = new PluginLoader(folder, new ModuleLoader(folder));

const classOf = (name: string): string => `class Say {
  getName() { return "${name}"; }
  parseConf(conf) { return JSON.parse(conf); }
  async filter(conf, request, response) { response.body = "says " + conf.body; }
}`;

const files: Record<string, string> = {
  "common.js": `${classOf("common")}\nmodule.exports = Say;`,
  "object.cjs": `${classOf("object")}\nmodule.exports = new Say();`,
  "compiled.cjs": `${classOf("compiled")}
    Object.defineProperty(exports, "__esModule", { value: true });
    exports.default = Say;`,
  "module.mjs": `export default ${classOf("module")}`,
  "typed.ts": `interface Conf { body: string }
    export default class {
      parseConf(conf: string): Conf { return JSON.parse(conf) as Conf; }
      async filter(conf: Conf, request: unknown, response: { body?: string }) {
        response.body = "says " + conf.body;
      }
    }`,
};

describe("a file of the runner's", () => {
  for (const [file, text] of Object.entries(files)) {
    it(`is a plugin: ${file}`, async () => {
      writeFileSync(join(folder, file), text);
      const plugin = await loader.load(file.replace(/\..*/, ""));
      const kit = await testPlugin(plugin, { body: file });
      const { response, errors } = await kit.request();
      await kit.close();
      assert.deepEqual(errors, []);
      assert.equal(response.text(), `says ${file}`);
    });
  }
});
