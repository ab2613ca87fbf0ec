/** A host that keeps to nothing, for a moment: test/fuzz/channel.ts runs for as long as one likes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fuzzChannel } from "../../fuzz/channel.js";

test("whatever a host does, nginx answers, its log stays small, and it obeys", async (t) => {
  const { findings, ...figures } = await fuzzChannel(5, 1);
  t.diagnostic(JSON.stringify(figures));
  assert.deepEqual(findings, []);
});
