/** What is compiled is used again by the next environment while nothing that it was made of has changed. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { KeptCompiled } from "../../src/host/kept.ts";

const folder = mkdtempSync(path.join(tmpdir(), "rts-kept-"));
after(() => rmSync(folder, { recursive: true }));

/** A file that was written long ago. */
function file(name: string, text = "1"): string {
  const whole = path.join(folder, name);
  writeFileSync(whole, text);
  utimesSync(whole, 1e9, 1e9);
  return whole;
}

/** What another environment has after this one has compiled `main`. */
function next(main: string, inputs: string[], imports: string[] = [], text = "compiled") {
  const texts = new Map<string, string>();
  const before = new KeptCompiled([]);
  before.put(main, { text, imports, inputs }, Date.now());
  before.open((name, kept) => void texts.set(name, kept));
  return { texts: [...texts.values()], kept: new KeptCompiled([...texts.values()]) };
}

describe("what was compiled", () => {
  test("is there once, with all that it was made with", () => {
    const main = file("a.ts");
    const { kept } = next(main, [main], ["node:fs"]);
    const { compiled, stamps } = kept.get(main)!;
    assert.deepEqual(compiled, { text: "compiled", imports: ["node:fs"], inputs: [main] });
    assert.deepEqual([...stamps.keys()], [main]);
    assert.equal(kept.get(main), undefined);
    assert.equal(kept.get(file("other.ts")), undefined);
  });

  for (const changed of ["main", "input", "package"] as const) {
    test(`is compiled again when its ${changed} has changed`, () => {
      const files = { main: file("m.ts"), input: file("i.ts"), package: file("p.js") };
      const imports = [pathToFileURL(files.package).href];
      const { kept } = next(files.main, [files.main, files.input], imports);
      writeFileSync(files[changed], "2");
      assert.equal(kept.get(files.main), undefined);
    });
  }

  test("is not kept when a file may have changed while it was read", () => {
    const main = file("new.ts");
    writeFileSync(main, "3");
    assert.deepEqual(next(main, [main]).texts, []);
  });

  test("is not another Node's", () => {
    const main = file("n.ts");
    const [text] = next(main, [main]).texts;
    const other = text!.replace(`"node":"${process.versions.node}"`, '"node":"1.0.0"');
    assert.equal(new KeptCompiled([other]).get(main), undefined);
  });

  test("goes with the names of schemas that are right", () => {
    const before = new KeptCompiled([]);
    const texts: string[] = [];
    before.open((_name, text) => void texts.push(text));
    before.putSchema("abc=");
    assert.deepEqual(new KeptCompiled(texts).schemas, ["abc="]);
  });
});
