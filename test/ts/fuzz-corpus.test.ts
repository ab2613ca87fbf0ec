/** The corpus of the fuzzers, and a few inputs of each kind that they make up, through the decoders of Lua and TypeScript. */
import assert from "node:assert/strict";
import { after, describe, it } from "node:test";
import { readCorpus, runAll } from "../fuzz/corpus.ts";
import { LuaChild } from "../fuzz/lua-child.ts";
import { makeInput } from "../fuzz/make.ts";
import { Random } from "../fuzz/random.ts";

describe("the decoders of Lua and TypeScript", () => {
  const child = new LuaChild();
  after(() => {
    child.close();
  });

  it("make of each input of the corpus what the wire format says", async () => {
    const corpus = readCorpus();
    assert.ok(corpus.length >= 10 && corpus.length < 300, `${corpus.length} inputs`);
    const { wrong } = await runAll(
      child,
      corpus.map(([, input]) => input),
    );
    assert.deepEqual(
      wrong.map(([i, text]) => `${corpus[i]![0]}: ${text}`),
      [],
    );
  });

  it("make of 1,000 inputs of one seed what the wire format says", async () => {
    const random = new Random(1);
    const inputs = Array.from({ length: 1000 }, () => makeInput(random));
    const { wrong, outcomes } = await runAll(child, inputs);
    assert.deepEqual(wrong, []);
    assert.ok(new Set(outcomes).size > 100, "outcomes of many kinds");
  });
});
