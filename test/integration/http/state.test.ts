/** What Node keeps for a request goes with it, in whichever way it ends (npm run test:state: a million times each). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { KINDS } from "../../state/kinds.ts";
import { NOTHING, type Runtime, siteOptions, tryKind } from "../../state/site.ts";
import { withNginx } from "../../support/nginx.js";

const REQUESTS: Record<Runtime, number> = { embedded: 2000, process: 200 };
const DEADLINE_MS = 20_000;

for (const runtime of ["embedded", "process"] as const) {
  test(`nothing stays in Node (${runtime})`, (t) =>
    withNginx(siteOptions(runtime), async (nginx) => {
      for (const kind of KINDS) {
        await t.test(`of ${kind.name}`, async () => {
          const { left } = await tryKind(nginx, kind, REQUESTS[runtime], DEADLINE_MS);
          assert.deepEqual(left, NOTHING);
        });
      }
    }));
}
