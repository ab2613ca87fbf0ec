/** Answers come without a doorbell, too: when it cannot be made, they are looked for until it can. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { setMaxListeners } from "node:events";
import { describe, test } from "node:test";
import { statsOf, untilState } from "../../support/bridge.js";
import { KeepAlive } from "../../support/clients.js";
import { until } from "../../support/deadline.js";
import { withNginx } from "../../support/nginx.js";
import { content, plainContent } from "../../support/nginx-config.js";

const DEAF = /the doorbell does not connect, so answers are looked for every millisecond/;

const locations = {
  "/add": content(`t.reply(ts.import("calc.ts").addLater(1, 2))`),
  "/held": `lua_check_client_abort on; ${plainContent("ngx.sleep(60)")}`,
  "/never": `lua_check_client_abort on; ${content(`t.reply(ts.import("wait.ts").never())`)}`,
};

/** The waiter's connection is made anew with each wake-up, as else after 100,000. */
const initWorker = `require("resty.ts").internal.client().waiting.wakeups_a_timer = 1`;

/** Of those that it opens from now on: their numbers are below `count`. */
function limitDescriptors(pid: number, count: number): void {
  execFileSync("prlimit", ["--pid", String(pid), `--nofile=${String(count)}:`]);
}

async function adds(client: KeepAlive): Promise<void> {
  const answer = await client.ask("/add");
  assert.deepEqual(JSON.parse(answer.body.toString()), { value: 3 });
}

describe("calls are answered when the doorbell cannot be made:", () => {
  test("no folder for its socket", () =>
    withNginx(
      { ts: { runtime_dir: "/nonexistent" }, locations, allowLog: [DEAF] },
      async (nginx) => {
        await untilState(nginx, "ready");
        for (let i = 0; i < 20; i++) assert.deepEqual(await nginx.json("/add"), { value: 3 });
        await nginx.waitForLog(/mkdtemp \/nonexistent.*runtime_dir/);
      },
    ));

  test("no descriptors, until there are some again", () =>
    withNginx(
      { ts: {}, initWorker, locations, allowLog: [DEAF, /Too many open files/] },
      async (nginx) => {
        await untilState(nginx, "ready");
        const client = new KeepAlive(nginx.url, 1);
        await adds(client);
        const pid = nginx.workerPid();
        limitDescriptors(pid, 0);
        for (let i = 0; i < 20; i++) await adds(client);
        await nginx.waitForLog(DEAF);
        limitDescriptors(pid, 20_000);
        await until("the doorbell is there again", async () => {
          await adds(client);
          return nginx.errorLog().includes("the doorbell is connected again");
        });
        await client.close();
      },
    ));

  test("no connections of nginx's, so that its timer does not come", () =>
    withNginx(
      {
        ts: { timeout_ms: 60_000 },
        connections: 24,
        initWorker,
        locations,
        allowLog: [DEAF, /worker_connections are not enough/, /could not create fake connection/],
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        const leave = new AbortController();
        setMaxListeners(100, leave.signal);
        const hold = (path: string): Promise<unknown> =>
          nginx.ask(path, { signal: leave.signal }).catch(() => "left");
        const held = [hold("/never")];
        await until("nginx has no connection for a timer", () => {
          if (held.length < 50) held.push(hold("/held"));
          return /failed to run timer .*wait(er)?_nginx/.test(nginx.errorLog());
        });
        leave.abort();
        await Promise.all(held);
        // What nobody waits for is found by a timer, which the next call makes.
        await until("no call is pending", async () => {
          assert.deepEqual(await nginx.json("/add"), { value: 3 });
          return (await statsOf(nginx)).pending === 0;
        });
      },
    ));
});
