/** However often the host asks for a reload, nginx has one under way, and one to follow. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../../support/deadline.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

const ASKED = 1000;
const ROUNDS = 3;

test("1,000 reloads that are asked for at once are one, and one to follow, whatever they come to", () =>
  withNginx(
    {
      ts: {},
      initWorker: `
        local client = ts.internal.client()
        local call = client.call
        function ask()
            for _ = 1, ${String(ASKED)} do
                require("resty.ts.reload").soon(client)
            end
        end
        begun, under_way, most = 0, 0, 0
        function client:call(fn, ...)
            if fn ~= self.reload then
                return call(self, fn, ...)
            end
            begun, under_way = begun + 1, under_way + 1
            most = math.max(most, under_way)
            if begun % 2 == 1 then
                ask()
            end
            local report = call(self, fn, ...)
            under_way = under_way - 1
            if begun == 1 then
                error("thrown on purpose")
            end
            return begun > 3 and report or nil -- as a host may answer
        end`,
      locations: {
        "/soon": content(`t.reply(ask())`),
        "/seen": content(`
          t.json({ begun, most, ts.internal.client().reloads.flight and 0 or 1 })`),
      },
      allowLog: [/the reload failed: .*(thrown on purpose|no report)/],
    },
    async (nginx) => {
      for (let round = 1; round <= ROUNDS; round++) {
        await nginx.json("/soon");
        await until("the reloads are done", async () => {
          const [begun, most, done] = await nginx.json<number[]>("/seen");
          assert.ok(begun! <= 2 * round && most! <= 1, `${String(begun)} reloads, ${String(most)}`);
          return begun === 2 * round && done === 1;
        });
      }
    },
  ));
