/** `npm run test:sequences` in small. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { runSequences } from "../../sequences/sequences.js";

for (const runtime of ["embedded", "process"] as const) {
  test(`whatever is done to a worker in its first second, nginx and then its calls go on, ${runtime}`, async () => {
    const say = (): void => undefined;
    const { failures } = await runSequences({ runtime, sequences: 8, seed: 18, say });
    assert.deepEqual(failures, []);
  });
}
