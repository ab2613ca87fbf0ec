/** Modules that cannot be called: missing, broken, outside, without the function. */
import assert from "node:assert/strict";
import { symlinkSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf, type Answer } from "../../support/bridge.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

interface Case {
  title: string;
  module: string;
  fn?: string;
  code: string;
  says: RegExp[];
}

const cases: Case[] = [
  {
    title: "a module that is missing",
    module: "no-such-file.ts",
    code: "module_not_found",
    says: [/no-such-file\.ts/],
  },
  {
    title: "a module above the folder of modules",
    module: "../conf/outside.ts",
    code: "module_not_found",
    says: [/outside\.ts/],
  },
  {
    title: "a module by an absolute path",
    module: "/etc/passwd",
    code: "module_not_found",
    says: [/\/etc\/passwd/],
  },
  {
    title: "a link that leads out of the folder of modules",
    module: "link.ts",
    code: "module_not_found",
    says: [/link\.ts/],
  },
  {
    title: "a module that does not parse",
    module: "broken-syntax.ts",
    code: "module_failed",
    says: [/broken-syntax\.ts/, /2/],
  },
  {
    title: "a module that throws while it loads",
    module: "throws-at-load.ts",
    code: "module_failed",
    says: [/throws-at-load\.ts/, /no configuration today/],
  },
  {
    title: "a module that rejects while it loads",
    module: "rejects-at-load.mts",
    code: "module_failed",
    says: [/rejects-at-load\.mts/, /top-level trouble/],
  },
  {
    title: "a module that imports a package that is not there",
    module: "imports-missing.ts",
    code: "module_failed",
    says: [/imports-missing\.ts/, /no-such-package/],
  },
  {
    title: "a function that the module does not export",
    module: "calc.ts",
    fn: "subtract",
    code: "function_not_found",
    says: [/calc\.ts/, /subtract/],
  },
  {
    title: "an export that is no function",
    module: "calc.ts",
    fn: "notAFunction",
    code: "function_not_found",
    says: [/calc\.ts/, /notAFunction/],
  },
  {
    title: "a name that every object has",
    module: "calc.ts",
    fn: "toString",
    code: "function_not_found",
    says: [/toString/],
  },
  {
    title: "the constructor that every object has",
    module: "calc.ts",
    fn: "constructor",
    code: "function_not_found",
    says: [/constructor/],
  },
];

const MODULES = {
  "broken-syntax.ts": "export function f() {\n  return 1 +;\n}\n",
  "throws-at-load.ts": `throw new Error("no configuration today");\nexport function f() {}\n`,
  "rejects-at-load.mts": `await Promise.reject(new Error("top-level trouble"));\nexport function f() {}\n`,
  "imports-missing.ts": `import { x } from "no-such-package";\nexport function f() { return x; }\n`,
};

const call = content(`
  t.reply(ts.import(ngx.unescape_uri(ngx.var.arg_module))[ngx.var.arg_fn](1, 2))`);

function pathOf(module: string, fn: string): string {
  return `/call?module=${encodeURIComponent(module)}&fn=${fn}`;
}

describe("modules", () => {
  test("each way to be wrong has its code and its words, and the module beside it works on", async (t) => {
    await withNginx(
      {
        ts: {},
        modules: MODULES,
        files: { "conf/outside.ts": "export function f() { return 'outside'; }" },
        locations: { "/call": call },
        allowLog: [/\[error\]/],
      },
      async (nginx) => {
        const worker = nginx.workerPid();
        symlinkSync(join(nginx.prefix, "conf/outside.ts"), join(nginx.prefix, "modules/link.ts"));
        for (const { title, module, fn, code, says } of cases) {
          await t.test(`${title} is ${code}`, async () => {
            // Twice: a failure that was remembered must read the same.
            for (let round = 0; round < 2; round++) {
              const answer = await nginx.json<Answer>(pathOf(module, fn ?? "f"));
              assert.equal(answer.value, undefined);
              assert.equal(answer.code, code, answer.err);
              for (const words of says) assert.match(answer.err ?? "", words);
            }
            assert.deepEqual(await nginx.json(pathOf("calc.ts", "add")), { value: 3 });
          });
        }
        assert.equal(nginx.workerPid(), worker);
        assert.equal((await statsOf(nginx)).pending, 0);
      },
    );
  });

  const kinds: Record<string, string> = {
    "a.ts": "export const f = (a: number, b: number): number => a + b;",
    "a.mts": "export const f = (a: number, b: number): number => a + b;",
    "a.js": "exports.f = (a, b) => a + b;",
    "esm/package.json": `{ "type": "module" }`,
    "esm/a.js": "export const f = (a, b) => a + b;",
    "a.mjs": "export const f = (a, b) => a + b;",
    "a.cjs": "exports.f = (a, b) => a + b;",
    "sub/deep/a.ts": `import { f as g } from "../../a"; export const f = (a: number, b: number) => g(a, b);`,
    "uses-builtin.ts": `import { createHash } from "node:crypto";
      export const f = (a: number, b: number) => createHash("sha1").update("").digest().length - 20 + a + b;`,
    "uses-await.mts":
      "const one = await Promise.resolve(0); export const f = (a: number, b: number) => one + a + b;",
    "uses-package.ts": `import pkg from "a-package"; export const f = (a: number, b: number) => pkg.sum(a, b);`,
    "node_modules/a-package/package.json": `{ "name": "a-package", "version": "1.0.0", "main": "index.js" }`,
    "node_modules/a-package/index.js": "exports.sum = (a, b) => a + b;",
  };
  test("every kind of module is loaded, alone and with packages beside it", async (t) => {
    await withNginx({ ts: {}, modules: kinds, locations: { "/call": call } }, async (nginx) => {
      for (const module of Object.keys(kinds).filter(
        (name) => !/node_modules|package\.json/.test(name),
      )) {
        await t.test(`${module} answers`, async () => {
          assert.deepEqual(await nginx.json(pathOf(module, "f")), { value: 3 });
        });
      }
    });
  });
});
