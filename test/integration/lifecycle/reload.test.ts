/** HUP, again and again, with and without load: no request fails and nothing piles up. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { untilState } from "../../support/bridge.js";
import { wrk } from "../../support/clients.js";
import { repeatUntil, until } from "../../support/deadline.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { childrenOf, inspect } from "../../support/proc.js";

/** How often to reload where the issue says 200: fewer for a quick run. */
const RELOADS = Number(process.env["RTS_TEST_RELOADS"] ?? 200);

const add = content(`
  local sum, err = ts.import("calc.ts").addLater(1, 2)
  if sum ~= 3 then
      ngx.status = 500
      return ngx.print(err)
  end
  ngx.print(sum)`);
const sleepy = content(`
  local ms, err = ts.import("wait.ts").sleep(5)
  if ms ~= 5 then
      ngx.status = 500
      ngx.log(ngx.ERR, "sleep: ", err)
      return ngx.print(err)
  end
  ngx.print(ms)`);

describe("a reload", () => {
  test("under load fails no request", () =>
    withNginx({ ts: {}, workers: 2, locations: { "/sleepy": sleepy } }, async (nginx) => {
      // Connections that close: a kept-alive one may be closed by nginx while the next request
      // is on its way, with or without the bridge. The handler sleeps, so calls are in flight.
      const load = wrk(`${nginx.url}/sleepy`, {
        connections: 16,
        seconds: 5,
        headers: { Connection: "close" },
      });
      const reloads = await repeatUntil(load, () => nginx.reload());
      const report = await load;
      assert.ok(reloads >= 2, `${String(reloads)} reloads`);
      assert.ok(report.requests > 0);
      assert.equal(report.non2xx, 0);
      assert.deepEqual(report.socketErrors, { connect: 0, read: 0, write: 0, timeout: 0 });
    }));

  test("under load on kept-alive connections answers nothing but success", () =>
    withNginx({ ts: {}, workers: 2, locations: { "/add": add } }, async (nginx) => {
      const load = wrk(`${nginx.url}/add`, { connections: 32, seconds: 4 });
      const reloads = await repeatUntil(load, () => nginx.reload());
      const report = await load;
      assert.ok(reloads >= 2, `${String(reloads)} reloads`);
      assert.ok(report.requests > 0);
      assert.equal(report.non2xx, 0);
    }));

  test("lets a call in flight in the old worker finish", () =>
    withNginx(
      {
        ts: { timeout_ms: 20_000 },
        locations: {
          "/sleep": content(`
            local ms = ts.import("wait.ts").sleep(1500)
            t.reply(ms .. " by " .. ngx.worker.pid())`),
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const old = nginx.workerPid();
        const sleeping = nginx.json("/sleep");
        await until("the call is in flight", async () => {
          return (await nginx.json<{ pending: number }>("/_stats")).pending === 1;
        });
        await nginx.reload();
        assert.deepEqual(await sleeping, { value: `1500 by ${String(old)}` });
        assert.notEqual(nginx.workerPid(), old);
      },
    ));

  test("right after a reload, before Node is ready, does no harm", () =>
    withNginx({ ts: {}, workers: 2, locations: { "/add": add } }, async (nginx) => {
      for (let i = 0; i < 20; i++) {
        const old = nginx.workerPids();
        nginx.signal("SIGHUP");
        await until("new workers", () => nginx.workerPids().some((pid) => !old.includes(pid)));
      }
      await until("only two workers", () => childrenOf(nginx.masterPid).length === 2);
      await nginx.reload();
      assert.equal((await nginx.ask("/add")).text, "3");
    }));

  test(`${String(RELOADS)} times leaves no descriptor, thread, socket file or zombie`, () =>
    withNginx({ ts: {}, locations: { "/add": add } }, async (nginx) => {
      const snapshot = async (): Promise<Snapshot> => {
        assert.equal((await nginx.ask("/add")).text, "3");
        await untilState(nginx, "ready");
        const master = inspect(nginx.masterPid);
        const worker = inspect(nginx.workerPid());
        return {
          masterDescriptors: master.descriptors.size,
          masterThreads: master.threads.length,
          masterZombies: master.zombies,
          workerDescriptors: worker.descriptors.size,
          workerThreads: worker.threads.length,
          workerZombies: worker.zombies,
          processes: nginx.allPids().length,
          files: readdirSync(nginx.prefix).sort(),
          temporary: readdirSync(join(nginx.prefix, "tmp")),
        };
      };
      await nginx.reload();
      const before = await snapshot();
      for (let i = 0; i < RELOADS; i++) {
        await nginx.reload();
        // Every other worker meets its end before Node is ready, every other after a call.
        if (i % 2 === 0) assert.equal((await nginx.ask("/add")).text, "3");
      }
      // A compiler's pipes may still be closing, before as after: less than before is no leak.
      const left = await until("nothing more is left than before", async () => {
        const now = await snapshot();
        return countedAtMost(now, before) ? now : undefined;
      });
      assert.deepEqual({ ...left, workerDescriptors: 0 }, { ...before, workerDescriptors: 0 });
    }));
});

function countedAtMost(now: Snapshot, before: Snapshot): boolean {
  return (
    now.workerDescriptors <= before.workerDescriptors &&
    now.processes <= before.processes &&
    // A compiler that has just ended is one until libuv has heard of it.
    now.workerZombies.length <= before.workerZombies.length
  );
}

interface Snapshot {
  masterDescriptors: number;
  masterThreads: number;
  masterZombies: number[];
  workerDescriptors: number;
  workerThreads: number;
  workerZombies: number[];
  processes: number;
  files: string[];
  temporary: string[];
}

describe("a worker that is killed", () => {
  test("comes back serving, and leaves no socket file behind", () =>
    withNginx(
      { ts: {}, locations: { "/add": add }, allowLog: [/exited on signal 9/] },
      async (nginx) => {
        for (let i = 0; i < 5; i++) {
          assert.equal((await nginx.ask("/add")).text, "3");
          // Every other time right after the start, when the socket of the waiter may be there.
          if (i % 2 === 0) await untilState(nginx, "ready");
          await nginx.killWorker();
        }
        assert.equal((await nginx.ask("/add")).text, "3");
      },
    ));
});
