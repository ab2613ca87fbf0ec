/** QUIT and TERM at every state of the runtime: how soon nginx ends, and with what status. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilState } from "../../support/bridge.js";
import { wrk } from "../../support/clients.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Exit } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { busyStates, idleStates } from "./states.js";

const SECOND_MS = 1000;
/** A second is promised: nginx's own master kills a worker that takes longer than that for TERM. */
const PROMISED_MS = SECOND_MS;

function assertClean(exit: Exit, since: number): void {
  assert.equal(exit.signal, null);
  assert.equal(exit.code, 0);
  const took = exit.at - since;
  assert.ok(took <= PROMISED_MS, `nginx took ${String(took)} ms`);
}

describe("TERM", () => {
  for (const { title, options, enter } of [...idleStates, ...busyStates]) {
    test(`ends nginx at once with status 0 when ${title}`, () =>
      withNginx(options, async (nginx) => {
        const asked = await enter(nginx);
        const since = Date.now();
        assertClean(await nginx.term(), since);
        await Promise.allSettled(asked);
      }));
  }

  test("ends nginx at once under load", () =>
    withNginx(
      {
        ts: {},
        workers: 2,
        locations: { "/add": content(`t.reply(ts.import("calc.ts").addLater(1, 2))`) },
      },
      async (nginx) => {
        const load = wrk(`${nginx.url}/add`, { connections: 32, seconds: 2 });
        await until("the load has begun", async () => (await statsOf(nginx)).calls > 100);
        const since = Date.now();
        assertClean(await nginx.term(), since);
        await load;
      },
    ));
});

describe("QUIT", () => {
  for (const { title, options, enter } of idleStates) {
    test(`ends nginx within a second when ${title}`, () =>
      withNginx(options, async (nginx) => {
        const asked = await enter(nginx);
        assert.equal(asked.length, 0);
        const since = Date.now();
        assertClean(await nginx.quit(), since);
      }));
  }

  test("lets a call in flight finish, and ends nginx within a second of it", () =>
    withNginx(
      {
        ts: { timeout_ms: 20_000 },
        locations: { "/sleep": content(`t.reply(ts.import("wait.ts").sleep(1500))`) },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const sleeping = nginx.json("/sleep").then((answer) => ({ answer, at: Date.now() }));
        await until("the call is in flight", async () => (await statsOf(nginx)).pending === 1);
        const ended = nginx.quit();
        const { answer, at } = await sleeping;
        assert.deepEqual(answer, { value: 1500 });
        assertClean(await ended, at);
      },
    ));

  test("lets a request make further calls before it is done", () =>
    withNginx(
      {
        ts: { timeout_ms: 20_000 },
        locations: {
          "/steps": content(`
            local wait, sum = ts.import("wait.ts"), 0
            for _ = 1, 10 do sum = sum + assert(wait.sleep(100)) end
            t.reply(sum)`),
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const steps = nginx.json("/steps").then((answer) => ({ answer, at: Date.now() }));
        await until("the calls have begun", async () => (await statsOf(nginx)).pending === 1);
        const ended = nginx.quit();
        const { answer, at } = await steps;
        assert.deepEqual(answer, { value: 1000 });
        assertClean(await ended, at);
      },
    ));

  test("ends nginx within a second of the timeout of a handler that never settles", () =>
    withNginx(
      {
        ts: { timeout_ms: 1500 },
        locations: { "/never": content(`t.reply(ts.import("wait.ts").never())`) },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const never = nginx
          .json<{ code: string }>("/never")
          .then((answer) => ({ answer, at: Date.now() }));
        await until("the call is in flight", async () => (await statsOf(nginx)).pending === 1);
        const ended = nginx.quit();
        const { answer, at } = await never;
        assert.equal(answer.code, "timeout");
        assertClean(await ended, at);
      },
    ));

  test("under load ends nginx with status 0, all answered requests being successes", () =>
    withNginx(
      {
        ts: {},
        workers: 2,
        locations: { "/add": content(`t.reply(ts.import("calc.ts").addLater(1, 2))`) },
      },
      async (nginx) => {
        const load = wrk(`${nginx.url}/add`, { connections: 32, seconds: 2 });
        await until("the load has begun", async () => (await statsOf(nginx)).calls > 100);
        const exit = await nginx.quit();
        assert.equal(exit.code, 0);
        assert.equal((await load).non2xx, 0);
      },
    ));
});
