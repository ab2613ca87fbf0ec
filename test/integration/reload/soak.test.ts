/** `npm run test:reload` in small: hot reloads and HUPs under load that is checked answer by answer. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { hotReloads } from "../../reload/hot.js";
import { hups } from "../../reload/hup.js";

const quiet = { connections: 3, say: (): void => undefined };

for (const runtime of ["embedded", "process"] as const) {
  describe(`under load, ${runtime}`, () => {
    test("hot reloads fail no call, broken versions are refused, and what is replaced is freed", async () => {
      const result = await hotReloads({ ...quiet, runtime, reloads: 18 });
      assert.deepEqual(result.failures, []);
      assert.equal(result.failed, 0);
      assert.ok(result.calls > result.taken);
      assert.ok(result.refused > 0);
    });

    test("HUP fails no call, and new workers have what was written before", async () => {
      const result = await hups({ ...quiet, runtime, hups: 3 });
      assert.deepEqual(result.failures, []);
      assert.equal(result.failed, 0);
    });
  });
}
