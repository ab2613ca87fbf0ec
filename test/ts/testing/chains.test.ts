/**
 * Chains made up at random do in the kit what the model says: no decision is lost, none invented.
 * RTS_CHAINS says how many.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { expected } from "../../kit/policy-model.ts";
import { chain, comparable, runInKit, SEED } from "../../kit/random-chains.ts";

const RUNS = Number(process.env["RTS_CHAINS"] ?? 5_000);

test("chains of plugins do in the kit what their policies say", async () => {
  await fc.assert(
    fc.asyncProperty(chain, async ({ members, scripts, start }) => {
      const actual = await runInKit(members, scripts, start);
      assert.deepEqual(comparable(actual), comparable(expected(members, scripts, start)));
    }),
    { seed: SEED, numRuns: RUNS, includeErrorInReport: true },
  );
});
