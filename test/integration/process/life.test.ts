/** One life of a host process: it serves, is a child as it should be, and ends. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { KeepAlive } from "../../support/clients.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { childrenOf, descriptorsOf, inspect, isAlive, signalsIn } from "../../support/proc.js";

/** The one that is found on the PATH. */
const NODE_VERSION = execFileSync("node", ["--version"], { encoding: "utf8" }).trim();
const ts = { runtime: "process", timeout_ms: 20_000 };
const options: NginxOptions = {
  ts,
  locations: {
    "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
    "/large": content(`
      local text = ("x"):rep(5000000)
      local back, err, code = ts.import("calc.ts").echo(text)
      t.reply(back == text, err, code)`),
    "/throw": content(`t.reply(ts.import("faults.ts").throwError("so it is"))`),
    "/function": content(`t.reply(ts.import("calc.ts").echo(print))`),
    "/missing": content(`t.reply(ts.import("missing.ts").f())`),
    "/sync": content(`t.reply(ts.call_sync(ts.import("calc.ts").add, 5000, 3, 4))`),
    "/about": content(`t.reply(ts.import("env.ts").about())`),
    "/variables": content(`t.reply(ts.import("crash.ts").variables())`),
    "/print": content(`t.reply(ts.import("crash.ts").print("printed by the host\\n"))`),
    "/spin": content(`t.reply(ts.import("wait.ts").spinForever())`),
    "/exit": content(`t.reply(ts.import("faults.ts").exit(3))`),
    "/abort": content(`t.reply(ts.import("crash.ts").abort())`),
    "/segfault": content(`t.reply(ts.import("crash.ts").segfault())`),
    "/fill": content(`t.reply(ts.import("crash.ts").fill())`),
    "/held": content(`t.reply(ts.import("wait.ts").untilAborted())`),
    "/seen": content(`t.reply(ts.import("wait.ts").seen())`),
    "/sleep": content(`t.reply(ts.import("wait.ts").sleep(60000))`),
  },
};

async function hostOf(nginx: Nginx): Promise<number> {
  await untilState(nginx, "ready");
  return (await statsOf(nginx)).process_id ?? assert.fail("there is no host");
}

/** Another host serves, in the same worker. */
async function goesOn(nginx: Nginx, worker: number, host: number): Promise<void> {
  await until("there is another host", async () => {
    const { state, process_id } = await statsOf(nginx);
    return state === "ready" && process_id !== host;
  });
  assert.deepEqual(await nginx.json("/add"), { value: 3 });
  assert.equal(nginx.workerPid(), worker);
  assert.deepEqual(inspect(worker).zombies, []);
}

const ENDED = /the (runtime|environment) ended|TypeError: so it is|exited/;
const ended: NginxOptions = { ...options, allowLog: [ENDED] };

describe("a host process", () => {
  test("answers calls of all kinds and sizes", () =>
    withNginx({ ...options, allowLog: [/so it is/, /missing\.ts/] }, async (nginx) => {
      const host = await hostOf(nginx);
      const stats = await statsOf(nginx);
      assert.equal(stats.runtime, "process");
      assert.equal(stats.node_version, NODE_VERSION);
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
      assert.deepEqual(await nginx.json("/large"), { value: true });
      assert.deepEqual(await nginx.json("/sync"), { value: 7 });
      assert.equal((await nginx.json<Answer>("/throw")).code, "handler_failed");
      assert.equal((await nginx.json<Answer>("/function")).code, "bad_argument");
      assert.equal((await nginx.json<Answer>("/missing")).code, "module_not_found");
      const about = (await nginx.json<Answer<{ pid: number }>>("/about")).value;
      assert.equal(about?.pid, host);
      assert.deepEqual(childrenOf(nginx.workerPid()), [host]);
    }));

  test("goes on when the waiter has a new doorbell", () =>
    withNginx(
      {
        ...options,
        initWorker: `
          local client = require("resty.ts").internal.client()
          client.waiting.wakeups_a_timer = 3`,
      },
      async (nginx) => {
        for (let i = 0; i < 50; i++) assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("has no descriptors, signals and variables but its own", () =>
    withNginx(
      {
        ...options,
        ts: { ...ts, environment: ["RTS_GIVEN"] },
        main: "env RTS_GIVEN=yes; env RTS_KEPT=no;",
      },
      async (nginx) => {
        const host = await hostOf(nginx);
        const worker = new Set(descriptorsOf(nginx.workerPid()).values());
        const shared = [...descriptorsOf(host).values()].filter((name) => worker.has(name));
        // The channel's memory, the host's doorbell (all eventfds look alike), Lua's, what it prints.
        const allowed =
          /^(\/dev\/null|\/memfd:resty-ts|anon_inode:\[event(fd|poll)\]|socket:|pipe:)/;
        for (const name of shared) assert.match(name, allowed);
        for (const kind of ["socket:", "pipe:"]) {
          const open = new Set(shared.filter((name) => name.startsWith(kind)));
          assert.ok(open.size <= 1, [...open].join());
        }
        const view = inspect(host);
        assert.deepEqual(signalsIn(view.blocked), []);
        const variables = (await nginx.json<Answer<Record<string, string>>>("/variables")).value!;
        assert.equal(variables.RTS_GIVEN, "yes");
        assert.equal(variables.RTS_KEPT, undefined);
        assert.ok(variables.PATH);
        assert.equal(variables.TMPDIR, `${nginx.prefix}/tmp`);
      },
    ));

  test("prints to nginx's error log", () =>
    withNginx(options, async (nginx) => {
      await nginx.json("/print");
      await nginx.waitForLog(/printed by the host/);
    }));
});

describe("a host process ends", () => {
  const ends: [path: string, code: string, text: RegExp][] = [
    ["/exit", "exited", /exit code 3/],
    ["/abort", "exited", /signal 6, SIGABRT/],
    ["/segfault", "exited", /signal 11, SIGSEGV/],
  ];
  for (const [path, code, text] of ends) {
    test(`by ${path.slice(1)}, and the worker says so and goes on with another`, () =>
      withNginx(ended, async (nginx) => {
        const host = await hostOf(nginx);
        const worker = nginx.workerPid();
        const answer = await nginx.json<Answer>(path);
        assert.equal(answer.code, code);
        assert.match(answer.err ?? "", text);
        await goesOn(nginx, worker, host);
      }));
  }

  test("with the whole heap taken, which is out_of_memory", () =>
    withNginx({ ...ended, ts: { ...ts, max_heap_mb: 32 } }, async (nginx) => {
      await untilState(nginx, "ready");
      assert.equal((await nginx.json<Answer>("/fill")).code, "out_of_memory");
    }));

  test("by kill -9, with no alert of nginx's and no zombie", () =>
    withNginx(ended, async (nginx) => {
      const host = await hostOf(nginx);
      const worker = nginx.workerPid();
      const asked = nginx.json<Answer>("/held");
      await until("the call has begun", async () => {
        return (await nginx.json<Answer<{ started: number }>>("/seen")).value?.started === 1;
      });
      process.kill(host, "SIGKILL");
      const answer = await asked;
      assert.equal(answer.code, "exited");
      assert.match(answer.err ?? "", /signal 9, SIGKILL/);
      assert.doesNotMatch(nginx.errorLog(), /\[alert\]/);
      await until("the host is reaped", () => !isAlive(host));
      await goesOn(nginx, worker, host);
    }));

  test("when it can be watched no more: poll() takes as many descriptors as may be open", () =>
    withNginx({ ...ended, allowLog: [ENDED, /Too many open files/] }, async (nginx) => {
      const host = await hostOf(nginx);
      const worker = nginx.workerPid();
      const limit = (soft: number): void => {
        execFileSync("prlimit", ["--pid", String(worker), `--nofile=${String(soft)}:`]);
      };
      const client = new KeepAlive(nginx.url, 1);
      await client.ask("/print");
      limit(0);
      await client.ask("/print");
      await nginx.waitForLog(/the process was ended by signal 9/);
      limit(20_000);
      await client.close();
      await goesOn(nginx, worker, host);
    }));

  for (const state of ["idle", "spinning", "stopped"] as const) {
    test(`with its worker, killed while it is ${state}`, () =>
      withNginx({ ...ended, allowLog: [/exited on signal 9/, ENDED] }, async (nginx) => {
        const host = await hostOf(nginx);
        if (state === "spinning") {
          nginx.ask("/spin").catch(() => undefined);
          await until("the call is in flight", async () => (await statsOf(nginx)).pending === 1);
        }
        if (state === "stopped") process.kill(host, "SIGSTOP");
        await nginx.killWorker();
        await until("the host is gone", () => !isAlive(host));
      }));
  }
});
