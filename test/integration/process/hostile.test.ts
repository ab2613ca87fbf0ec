/** A host that means harm can cost answers and time, and never holds its worker up. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { PROJECT_ROOT } from "../../support/project.js";

test("a host that means harm cannot make the worker wait at a doorbell", () =>
  withNginx(
    {
      ts: {
        runtime: "process",
        node: join(PROJECT_ROOT, "test/integration/process/hostile-host.lua"),
        start_timeout_ms: 60_000,
      },
      locations: {
        "/notify": content(`
          local add = ts.import("calc.ts").add
          for i = 1, 3000 do
              assert(ts.notify(add, i, i))
          end
          t.reply(true)`),
      },
    },
    async (nginx) => {
      await nginx.waitForLog(/harm is done/);
      for (let i = 0; i < 3; i++) assert.deepEqual(await nginx.json("/notify"), { value: true });
      assert.equal((await nginx.ask("/_up")).status, 204);
    },
  ));
