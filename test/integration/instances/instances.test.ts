/** Several environments in a worker: calls are spread, keys keep together, one ends without the others. */
import assert from "node:assert/strict";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

const gate = (name: string, options: string): string =>
  content(`t.reply(ts.import("wait.ts", ${options}).gate(ngx.config.prefix() .. "${name}", 7))`);

const locations = {
  "/add": content(`t.reply(ts.import("calc.ts").addLater(1, 2))`),
  "/next": content(`t.reply(ts.import("counter.ts").bump(1))`),
  "/next-of-one": content(`t.reply(ts.import("counter.ts", { key = "counts" }).bump(1))`),
  "/gate": gate("open", "{}"),
  "/gate-again": gate("open", "{ idempotent = true }"),
  "/seen": content(`t.reply(ts.import("wait.ts").seen())`),
  "/seen-of-one": content(`t.reply(ts.import("wait.ts", { key = "counts" }).seen())`),
  "/slow": content(`t.reply(ts.import("slow.ts").answer())`),
  "/gate-of-one": gate("open", `{ key = "counts" }`),
  "/exit-again": content(`t.reply(ts.import("faults.ts", { idempotent = true }).exit(3))`),
  "/exit-of-one": content(`t.reply(ts.import("faults.ts", { key = "counts" }).exit(3))`),
  "/exit": content(`t.reply(ts.import("faults.ts").exit(3))`),
};

const three = (runtime: string, instances = 3): NginxOptions => ({
  ts: { runtime, instances, timeout_ms: 20_000 },
  locations,
  allowLog: [/the environment ended: runtime exited: .*exit code 3/],
});

function open(nginx: Nginx): void {
  writeFileSync(join(nginx.prefix, "open"), "");
}

async function untilPending(nginx: Nginx, count: number): Promise<void> {
  await until(`${String(count)} calls are in flight`, async () => {
    return (await statsOf(nginx)).pending === count;
  });
}

for (const runtime of ["embedded", "process"]) {
  describe(`instances, ${runtime}`, () => {
    test("calls go where the fewest are in flight", () =>
      withNginx(three(runtime), async (nginx) => {
        await untilState(nginx, "ready");
        const held = Array.from({ length: 30 }, () => nginx.json<Answer>("/gate"));
        await untilPending(nginx, 30);
        const stats = await statsOf(nginx);
        assert.deepEqual(
          stats.instances?.map(({ pending }) => pending),
          [10, 10, 10],
        );
        const own = new Set(
          stats.instances.map((one) => (runtime === "process" ? one.process_id : one.thread_id)),
        );
        assert.equal(own.size, 3);
        open(nginx);
        for (const answer of await Promise.all(held)) assert.equal(answer.value, 7);
        assert.equal((await statsOf(nginx)).completed, 30);
      }));

    test("what has a key goes to one of them", () =>
      withNginx(three(runtime), async (nginx) => {
        const all = await Promise.all(
          Array.from({ length: 30 }, () => nginx.json<Answer<number>>("/next-of-one")),
        );
        const numbers = all.map(({ value }) => value ?? NaN).toSorted((a, b) => a - b);
        assert.deepEqual(
          numbers,
          Array.from({ length: 30 }, (_, i) => i + 1),
        );
        const stats = await statsOf(nginx);
        assert.deepEqual(stats.instances?.map(({ calls }) => calls).toSorted(), [0, 0, 30]);
      }));

    test("one that ends fails nothing in the others, and starts again", () =>
      withNginx(three(runtime), async (nginx) => {
        await untilState(nginx, "ready");
        const pid = nginx.workerPid();
        const held = Array.from({ length: 30 }, () => nginx.json<Answer>("/gate"));
        await untilPending(nginx, 30);
        // One that had not begun there would go on in the next environment.
        await until("those of the one that ends have begun", async () => {
          const { value } = await nginx.json<Answer<{ started: number }>>("/seen-of-one");
          return value?.started === 10;
        });
        assert.equal((await nginx.json<Answer>("/exit-of-one")).code, "exited");
        open(nginx);
        const codes = (await Promise.all(held)).map(({ value, code }) => value ?? code);
        assert.equal(codes.filter((code) => code === 7).length, 20);
        assert.equal(codes.filter((code) => code === "exited").length, 10);
        await untilState(nginx, "ready");
        const stats = await statsOf(nginx);
        assert.deepEqual(stats.instances?.map(({ lives }) => lives).toSorted(), [1, 1, 2]);
        assert.equal(stats.lives, 4);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal(nginx.workerPid(), pid);
        assert.match(nginx.errorLog(), /instance [123]: the environment ended/);
      }));
  });

  describe(`calls that may be made twice, ${runtime}`, () => {
    test("outlive the environment that they are in flight in", () =>
      withNginx(three(runtime, 1), async (nginx) => {
        await untilState(nginx, "ready");
        const again = Array.from({ length: 10 }, () => nginx.json<Answer>("/gate-again"));
        const once = Array.from({ length: 10 }, () => nginx.json<Answer>("/gate"));
        await until("all have begun", async () => {
          const { value } = await nginx.json<Answer<{ started: number }>>("/seen");
          return value?.started === 20;
        });
        assert.equal((await nginx.json<Answer>("/exit")).code, "exited");
        for (const answer of await Promise.all(once)) assert.equal(answer.code, "exited");
        await untilPending(nginx, 10);
        open(nginx);
        for (const answer of await Promise.all(again)) assert.equal(answer.value, 7);
        assert.equal((await statsOf(nginx)).repeated, 10);
      }));

    test("are all that wait for their module", () =>
      withNginx(
        {
          ...three(runtime, 1),
          modules: {
            "slow.ts": `
              import { existsSync, writeFileSync } from "node:fs";
              import { setTimeout as delay } from "node:timers/promises";
              const gate = new URL("../open", import.meta.url).pathname;
              writeFileSync(gate + ".loading", "");
              while (!existsSync(gate)) await delay(2);
              let calls = 0;
              export const answer = () => ++calls;`,
          },
        },
        async (nginx) => {
          await untilState(nginx, "ready");
          const answers = Array.from({ length: 5 }, () => nginx.json<Answer<number>>("/slow"));
          await until("the module is being loaded", () =>
            existsSync(join(nginx.prefix, "open.loading")),
          );
          await untilPending(nginx, 5);
          assert.equal((await nginx.json<Answer>("/exit")).code, "exited");
          open(nginx);
          const values = (await Promise.all(answers)).map(({ value, err }) => value ?? err);
          assert.deepEqual(values.toSorted(), [1, 2, 3, 4, 5]);
        },
      ));

    test("that end each environment are made three times, and not again", () =>
      withNginx(
        { ...three(runtime, 1), allowLog: [/exit code 3/, /crash loop/] },
        async (nginx) => {
          await untilState(nginx, "ready");
          const answer = await nginx.json<Answer>("/exit-again");
          assert.match(answer.code ?? "", /^(exited|unavailable)$/);
          const stats = await statsOf(nginx);
          assert.ok(stats.exited <= 3, `${String(stats.exited)} environments`);
          await until("calls are answered again", async () => {
            return (await nginx.json<Answer>("/add")).value === 3;
          });
        },
      ));
  });
}
