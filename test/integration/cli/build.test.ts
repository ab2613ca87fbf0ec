/** What `resty-ts build` has made, in nginx: away from the sources, with no npm package but native ones. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { makeFolder, PROJECT_ROOT } from "../../support/project.js";
import { withNginx } from "../../support/nginx.js";
import { plainContent } from "../../support/nginx-config.js";

/** Of a project: TypeScript by path and packages, which have their own idea of where they are. */
const PROJECT: Record<string, string> = {
  "plugins/greet.ts": `
import { createRequire } from "node:module";
import { definePlugin, RestyTsError, Type } from "resty-ts";
import { greeting } from "../lib/greeting.ts";
import place from "old-style";

const require = createRequire(import.meta.url);
const __dirname = "mine";

export default definePlugin({
  name: "greet",
  schema: Type.Object({ who: Type.String({ default: "world" }) }),
  content(ctx, { conf }) {
    if (ctx.request.path === "/fails") greeting("");
    return Response.json({
      text: greeting(conf.who),
      mine: __dirname,
      join: (require("node:path") as typeof import("node:path")).join("a", "b"),
      place,
      native: (require("with-gyp") as { name: string }).name,
      error: new RestyTsError("handler_failed", "x") instanceof Error,
    });
  },
});
`,
  "lib/greeting.ts": `
interface Words { readonly hello: string }
const words: Words = { hello: "hello, " };
export function greeting(who: string): string {
  if (who === "") throw new Error("nobody to greet");
  return words.hello + who;
}
`,
  "node_modules/old-style/package.json": '{ "name": "old-style", "version": "1.0.0" }',
  "node_modules/old-style/index.js":
    'module.exports = { os: require("os").type(), file: require("path").basename(__filename) };\n',
  "node_modules/with-gyp/package.json": '{ "name": "with-gyp", "version": "1.0.0" }',
  "node_modules/with-gyp/binding.gyp": "{}",
  "node_modules/with-gyp/index.js": "exports.name = require('path').basename(__dirname);\n",
};

describe("built plugins in nginx", () => {
  let base: string;
  let built: string;

  before(() => {
    base = makeFolder("built");
    const project = mkdtempSync(join(base, "project-"));
    for (const [name, text] of Object.entries(PROJECT)) {
      mkdirSync(dirname(join(project, name)), { recursive: true });
      writeFileSync(join(project, name), text);
    }
    built = join(base, "built");
    const cli = join(PROJECT_ROOT, "dist/cli/main.js");
    execFileSync(process.execPath, [cli, "build", "--out", built], { cwd: project });
    cpSync(join(project, "node_modules/with-gyp"), join(built, "node_modules/with-gyp"), {
      recursive: true,
    });
    rmSync(project, { recursive: true });
  });
  after(() => rmSync(base, { recursive: true, force: true }));

  for (const runtime of ["embedded", "process"]) {
    test(`serve, and fail with the source's lines (${runtime})`, async () => {
      await withNginx(
        {
          ts: { plugins: built, runtime },
          locations: { "/": plainContent('require("resty.ts.http").content("greet", {})') },
          allowLog: [/nobody to greet/],
        },
        async (nginx) => {
          assert.deepEqual(await nginx.json("/"), {
            text: "hello, world",
            mine: "mine",
            join: "a/b",
            place: { os: "Linux", file: "greet.mjs" },
            native: "with-gyp",
            error: true,
          });
          assert.equal((await nginx.ask("/fails")).status, 500);
          const log = await nginx.waitForLog(/nobody to greet[^]*?greeting\.ts:5:\d+/);
          assert.match(log.input, /greet\.ts:1[45]:\d+/);
        },
      );
    });
  }
});
