/** compile.ts, evaluate.ts and modules.ts: what a module is, and that an old version goes. */
import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, describe, it } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { ModuleLoader } from "../../src/host/modules.ts";

const root = mkdtempSync(join(tmpdir(), "resty-ts-test-"));
after(() => {
  rmSync(root, { recursive: true, force: true });
});
process.setSourceMapsEnabled(true);

setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;

let count = 0;

/** A folder with these files. */
function folderWith(files: Record<string, string>): {
  folder: string;
  readonly write: (name: string, text: string) => void;
} {
  const folder = join(root, `${++count}`);
  const write = (name: string, text: string): void => {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  };
  for (const [name, text] of Object.entries(files)) write(name, text);
  return { folder, write };
}

const call = (namespace: Record<string, unknown>, name: string, ...args: unknown[]): unknown =>
  (namespace[name] as (...args: unknown[]) => unknown)(...args);

describe("packages in a compiled module", () => {
  const packages = {
    "node_modules/esm/package.json": `{ "type": "module", "main": "index.js" }`,
    "node_modules/esm/index.js":
      "export let count = 0; export const add = () => { count++; }; export default 'its default';",
    "node_modules/bare/package.json": `{ "type": "module", "main": "index.js" }`,
    "node_modules/bare/index.js": "export const one = 1;",
    "node_modules/throws/index.js": "throw new RangeError('not today');",
  };

  it("names are the package's own and follow its changes", async () => {
    const { folder } = folderWith({
      ...packages,
      "a.ts": `import d, { count, add } from "esm"; import * as all from "esm"; import { readFileSync } from "node:fs";
        export const look = () => [d, count, all.count, Object.keys(all).sort(), typeof readFileSync];
        export { add };`,
    });
    const namespace = await new ModuleLoader(folder).load("a.ts");
    call(namespace, "add");
    assert.deepEqual(call(namespace, "look"), [
      "its default",
      1,
      1,
      ["add", "count", "default"],
      "function",
    ]);
  });

  it("an import that the package does not export is told with its place", async () => {
    const { folder } = folderWith({
      ...packages,
      "a.ts": `import { two } from "bare";\nexport const f = () => two;`,
      "b.ts": `import d from "bare";\nexport const f = () => d;`,
    });
    const loader = new ModuleLoader(folder);
    await assert.rejects(loader.load("a.ts"), /a\.ts:1:10: .*"two"/);
    await assert.rejects(loader.load("b.ts"), /b\.ts:1:8: .*"default"/);
  });

  it("what a package throws while it loads is told as it was thrown", async () => {
    const { folder } = folderWith({ ...packages, "a.ts": `import "throws"; export const f = 1;` });
    await assert.rejects(new ModuleLoader(folder).load("a.ts"), /RangeError: not today/);
  });
});

describe("a compiled module", () => {
  it("is strict, waits at its top, and has no module or exports", async () => {
    const { folder } = folderWith({
      "a.ts": `const late = await Promise.resolve(7);
        export const look = () => [late, this, typeof module, typeof exports, typeof require];
        export const strict = (): boolean => { try { (Object.freeze({ a: 1 }) as any).a = 2; return false; } catch { return true; } };`,
    });
    const namespace = await new ModuleLoader(folder).load("a.ts");
    const expected = [7, undefined, "undefined", "undefined", "function"];
    assert.deepEqual(call(namespace, "look"), expected);
    assert.equal(call(namespace, "strict"), true);
  });

  it("imports later what it names later, packages and Node's own", async () => {
    const { folder } = folderWith({
      "a.ts": `export const f = async (name: string) => Object.keys(await import(name)).includes("join");
        export const g = async () => (await import("./b.ts")).b;`,
      "b.ts": `export const b = "b";`,
    });
    const namespace = await new ModuleLoader(folder).load("a.ts");
    assert.equal(await call(namespace, "f", "node:path"), true);
    assert.equal(await call(namespace, "g"), "b");
  });

  it("has stacks in terms of its source, which hold when it is long out of use", async () => {
    const { folder, write } = folderWith({
      "a.ts": `interface A { a: number }\n\nexport const f = (): A => {\n  throw new Error("here");\n};`,
    });
    const loader = new ModuleLoader(folder);
    const { f } = await loader.load("a.ts");
    write("a.ts", "export const f = () => 1;");
    (await loader.newer("a.ts"))!.install();
    collectGarbage();
    assert.throws(f as () => void, (error: Error) => /a\.ts:4:9/.test(error.stack ?? ""));
  });
});

describe("newer versions", () => {
  const value = async (loader: ModuleLoader, name: string): Promise<unknown> =>
    call(await loader.load(name), "f");

  for (const [name, text] of Object.entries({
    "a.ts": "export const f = () => VALUE;",
    "a.mts": "export const f = () => VALUE;",
    "a.mjs": "export const f = () => VALUE;",
    "a.cjs": "exports.f = () => VALUE;",
    "a.js": "exports.f = () => VALUE;",
  })) {
    it(`${name} is loaded anew when its file has changed, and used when that is said`, async () => {
      const { folder, write } = folderWith({ [name]: text.replace("VALUE", "1") });
      const loader = new ModuleLoader(folder);
      assert.equal(await value(loader, name), 1);
      for (let i = 2; i <= 4; i++) {
        write(name, text.replace("VALUE", `${i}`));
        const newer = await loader.newer(name);
        assert.equal(call(newer!.namespace, "f"), i);
        assert.equal(await value(loader, name), i - 1);
        newer!.install();
        assert.equal(await value(loader, name), i);
      }
    });
  }

  it("what did not change is not loaded again, though it was touched", async () => {
    const text = "export const f = () => 1;";
    const { folder, write } = folderWith({ "a.ts": text });
    const loader = new ModuleLoader(folder);
    const before = await loader.load("a.ts");
    write("a.ts", text);
    assert.equal(await loader.newer("a.ts"), undefined);
    assert.equal(await loader.load("a.ts"), before);
  });

  it("a file that it imports counts, a package's does not", async () => {
    const { folder, write } = folderWith({
      "a.ts": `import { b } from "./lib/b.ts"; import { c } from "c"; export const f = () => b + c;`,
      "lib/b.ts": "export const b = 1;",
      "node_modules/c/index.js": "exports.c = 10;",
    });
    const loader = new ModuleLoader(folder);
    assert.equal(await value(loader, "a.ts"), 11);
    assert.deepEqual((await loader.files()).map((file) => file.slice(folder.length)).sort(), [
      "/a.ts",
      "/lib/b.ts",
    ]);
    write("node_modules/c/index.js", "exports.c = 20;");
    assert.equal(await loader.newer("a.ts"), undefined);
    write("lib/b.ts", "export const b = 2;");
    (await loader.newer("a.ts"))!.install();
    assert.equal(await value(loader, "a.ts"), 12);
  });

  it("one that is broken is told each time, the old stays, and the next may be right", async () => {
    const { folder, write } = folderWith({ "a.ts": "export const f = () => 1;" });
    const loader = new ModuleLoader(folder);
    await loader.load("a.ts");
    write("a.ts", "export const f = () => ;");
    for (let i = 0; i < 2; i++) await assert.rejects(loader.newer("a.ts"), /a\.ts:1:/);
    assert.equal(await value(loader, "a.ts"), 1);
    write("a.ts", "export const f = () => 3;");
    (await loader.newer("a.ts"))!.install();
    assert.equal(await value(loader, "a.ts"), 3);
  });

  it("one that never loaded is tried again", async () => {
    const { folder, write } = folderWith({ "a.ts": "throw new Error('no');" });
    const loader = new ModuleLoader(folder);
    await assert.rejects(loader.load("a.ts"), /no/);
    write("a.ts", "export const f = () => 2;");
    (await loader.newer("a.ts"))!.install();
    assert.equal(await value(loader, "a.ts"), 2);
  });

  it("old versions are freed", async () => {
    const text = (i: number): string =>
      `import { join } from "node:path"; const big = new Array(20_000).fill(${i}); export const f = () => join("a", String(big.length + ${i}));`;
    const { folder, write } = folderWith({ "a.ts": text(0) });
    const loader = new ModuleLoader(folder);
    await loader.load("a.ts");
    const versions: WeakRef<object>[] = [];
    for (let i = 1; i <= 20; i++) {
      write("a.ts", text(i));
      const newer = (await loader.newer("a.ts"))!;
      newer.install();
      versions.push(new WeakRef(newer.namespace["f"] as object));
    }
    // A WeakRef holds what it was made for until the turn is over.
    await new Promise((resolve) => setImmediate(resolve));
    collectGarbage();
    const alive = versions.filter((version) => version.deref() !== undefined).length;
    assert.ok(alive <= 2, `${alive} of 20 versions are there still`);
  });
});
