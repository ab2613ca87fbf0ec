/**
 * An error of our own Lua ends neither the waiter nor what it starts, and keeps no slot: answers go
 * on coming by the doorbell, nothing is left pending, and a worker that is told to exit does.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

/** Where an error is thrown: `fail(table, name)` has a function throw once. */
const PLACES: Record<string, string> = {
  "the waiter, before it drains": `fail(client, "drain")`,
  "the waiter, after it has drained": `fail(client.waiting, "post_room")`,
  "a drain": `fail(client.channel, "drain")`,
  "an answer's decoder": `fail(require("resty.ts.decode"), "decode")`,
  "a large answer's decoder": `fail(require("resty.ts.decode"), "step")`,
  "what takes an answer": `fail(client, "on_result")`,
  "what takes a line of the log": `fail(client, "on_other")`,
  "what wakes a caller": `fail(client.waiting, "wake")`,
  "the look at the environment": `fail(client, "check_life")`,
  "the end of an environment": `
    fail(client, "fail_pending")
    client:broken("a fault on purpose")`,
  "the kicker": `
    fail(client.waiting, "may_look")
    client.waiting:kick_later()`,
  "the sweep": `fail(client, "sweep")`,
  "the watchdog": `fail(client, "watch")`,
  "the search for callers that are gone": `fail(client, "abandon_left")`,
  "the beat": `fail(client, "beat")`,
};

const modules = {
  "answers.ts": `
    export async function later(n) { await new Promise((done) => setTimeout(done, 2)); return n; }
    export async function large() {
      console.log("a line");
      await new Promise((done) => setTimeout(done, 300));
      return Array.from({ length: 20_000 }, (_, i) => "text " + i);
    }
    export const never = () => new Promise(() => undefined);
    export const take = (value) => value?.length;`,
};

const options = (runtime: string): NginxOptions => ({
  ts: { runtime, timeout_ms: 2000 },
  modules,
  initWorker: `
    client = ts.internal.client()
    hits = 0
    function fail(t, name)
        hits = 0
        client.short_lives = 0 -- this is no crash loop
        local own = rawget(t, name)
        t[name] = function(...)
            hits = hits + 1
            t[name] = own
            error("thrown on purpose")
        end
    end`,
  locations: {
    ...Object.fromEntries(
      Object.values(PLACES).map((lua, i) => [`/fail-${String(i)}`, content(`${lua} t.reply(1)`)]),
    ),
    "/hits": content(`t.json(hits)`),
    // All that an answer can need of nginx's side.
    "/use": content(`
      local answers = ts.import("answers.ts")
      local threads = {}
      for i = 1, 4 do
          threads[i] = ngx.thread.spawn(i % 2 == 0 and answers.large or answers.later)
      end
      for i = 1, 4 do
          ngx.thread.wait(threads[i])
      end
      t.reply(true)`),
    // Nobody looks for answers but who waits for the doorbell.
    "/rung": content(`
      local later = ts.import("answers.ts").later
      client.sweep = function() end
      local count = 0
      for i = 1, 20 do
          count = count + (ts.call(later, { timeout_ms = 900 }, i) == i and 1 or 0)
      end
      client.sweep = nil
      client.waiting:sweep_later()
      t.json({ count, client.waiting.running and 1 or 0, client.waiting.kicker and 1 or 0 })`),
    "/large": content(`t.reply(#ts.import("answers.ts").large())`),
    "/fail-exit": content(`
      local sweep = client.sweep
      function client:sweep()
          if ngx.worker.exiting() then
              self.sweep = nil
              error("thrown on purpose")
          end
          sweep(self)
      end
      t.reply(true)`),
    // Throws at the first of the beats to come.
    "/fail-beat": content(`
      local beat = client.beat
      beats = 0
      function client:beat()
          beats = beats + 1
          if beats == 1 then
              error("thrown on purpose")
          end
          beat(self)
      end
      t.reply(true)`),
    "/beats": content(`t.json(beats)`),
    "/never": `lua_check_client_abort on; ${content(`t.reply(ts.call(ts.import("answers.ts").never, { timeout_ms = 600000 }))`)}`,
  },
  allowLog: [/on purpose/, /resty\.ts: /, /stack traceback/, /lua entry thread aborted/],
});

async function settled(nginx: Nginx): Promise<void> {
  await untilState(nginx, "ready");
  await until("the waiter and its kicker are there", async () => {
    const rung = await nginx.json<number[]>("/rung");
    return rung[0] === 20 && rung[1] === 1 && rung[2] === 1;
  });
  await until("nothing is pending", async () => (await statsOf(nginx)).pending === 0);
}

for (const runtime of ["embedded", "process"]) {
  describe(`${runtime}: answers go on coming by the doorbell after an error in`, () => {
    test("each place", async (t) => {
      await withNginx(options(runtime), async (nginx) => {
        await settled(nginx);
        for (const [i, place] of Object.keys(PLACES).entries()) {
          await t.test(place, async () => {
            assert.equal((await nginx.ask(`/fail-${String(i)}`)).status, 200);
            await until("it was thrown", async () => {
              await nginx.ask("/use");
              return (await nginx.json<number>("/hits")) === 1;
            });
            await settled(nginx);
            assert.equal((await nginx.json<Answer<number>>("/large")).value, 20_000);
          });
        }
        assert.equal((await nginx.quit(5000)).code, 0);
      });
    });

    test("the beat of a worker that makes no calls", () =>
      withNginx(options(runtime), async (nginx) => {
        await settled(nginx);
        await nginx.ask("/fail-beat");
        await until("it goes on", async () => (await nginx.json<number>("/beats")) > 2);
        assert.match(nginx.errorLog(), /the beat failed: .*on purpose/);
      }));

    test("the sweep of a worker that exits", () =>
      withNginx(options(runtime), async (nginx) => {
        await settled(nginx);
        const leave = new AbortController();
        const left = nginx.ask("/never", { signal: leave.signal }).catch(() => "left");
        await until("it is pending", async () => (await statsOf(nginx)).pending === 1);
        await nginx.ask("/fail-exit");
        const exit = nginx.quit(5000);
        await nginx.waitForLog(/gracefully shutting down/);
        leave.abort();
        await left;
        assert.equal((await exit).code, 0);
        assert.match(nginx.errorLog(), /the sweep failed: .*on purpose/);
      }));
  });
}
