/** The shared suite in nginx: each case has the outcome there that it has in the testing kit. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { test } from "node:test";
import { check, runInKit } from "../../kit/case.ts";
import { cases, hostOf } from "../../kit/cases.ts";
import { KitUpstream, optionsFor, placesIn, runInNginx } from "../../kit/nginx.ts";
import { withNginx } from "../../support/nginx.js";
import { makeFolder } from "../../support/project.js";

for (const runtime of ["embedded", "process"] as const) {
  test(`nginx and the testing kit agree, ${runtime}`, async (t) => {
    const folder = makeFolder("kit");
    const places = placesIn(folder);
    const upstream = new KitUpstream(cases);
    await upstream.listen(places.back);
    try {
      await withNginx(optionsFor(cases, places, { ts: { runtime } }), async (nginx) => {
        for (const [i, one] of cases.entries()) {
          await t.test(one.title, async () => {
            const inKit = await runInKit(one, hostOf(i));
            const inNginx = await runInNginx(nginx, upstream, places, one, hostOf(i), inKit);
            const told = nginx.errorLog().slice(-2000);
            assert.deepEqual(inNginx, inKit, `nginx (actual) and kit (expected) differ\n${told}`);
            check(one, inNginx);
          });
        }
      });
    } finally {
      await upstream.close();
      rmSync(folder, { recursive: true, force: true });
    }
  });
}
