/**
 * Synchronous calls that are answered on the worker's own thread, and the same with `sync_inline` off:
 * what a handler does, and what comes of it, is one.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Answer, type Stats, statsOf, untilState } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { type Nginx, withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { threadsOf } from "../../support/proc.js";

const MODULE = `
  import { AsyncLocalStorage } from "node:async_hooks";
  import { execFileSync } from "node:child_process";
  import { readFile } from "node:fs/promises";
  import { readlinkSync } from "node:fs";
  import { createServer, connect } from "node:net";
  import { Worker } from "node:worker_threads";
  import { setPriority } from "node:os";

  const storage = new AsyncLocalStorage();
  const seen = [];
  const all = {};
  all.push = (value) => void seen.push(value);
  all.taken = () => seen.splice(0);
  /** "PID/task/TID" */
  all.thread = () => readlinkSync("/proc/thread-self");
  all.one = () => 1;
  all.later = (value) => new Promise((resolve) => setTimeout(resolve, 5, value));
  all.throws = () => { throw new Error("on purpose"); };
  all.rejects = async () => { throw new Error("on purpose"); };
  all.carriesNothing = () => () => 1;
  all.deep = () => {
    const down = (n) => (n === 0 ? 0 : 1 + down(n - 1));
    try { return down(1e9); } catch (error) { return error.constructor.name; }
  };
  all.schedules = () => storage.run("own", () => {
    const note = (what) => seen.push(what + " " + storage.getStore());
    process.nextTick(note, "tick");
    void Promise.resolve().then(() => note("promise"));
    setImmediate(note, "immediate");
    setTimeout(note, 1, "timer");
    void readFile("/proc/self/stat").then(() => note("file"));
    const server = createServer((socket) => socket.end()).listen(0, "127.0.0.1", () => {
      connect(server.address().port, "127.0.0.1").resume().on("close", () => {
        note("socket");
        server.close();
      });
    });
    new Worker("require('node:worker_threads').parentPort.postMessage(1)", { eval: true })
      .on("message", () => note("worker"));
  });
  all.starts = () => {
    const keep = "setInterval(() => {}, 1000)";
    return new Promise((resolve) => new Worker(keep, { eval: true }).on("online", () => resolve(null)));
  };
  all.nice = () => { try { setPriority(0, 5); return "set"; } catch (error) { return error.info.code; } };
  all.spins = () => { for (;;); };
  all.waits = () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  all.sorts = () => { for (;;) [3, 1, 2].sort((a, b) => JSON.stringify(a).length - b); };
  all.sleeps = () => { execFileSync("sleep", ["0.3"]); return "slept"; };
  all.exits = () => process.exit(7);
  all.fails = () => void setTimeout(() => { throw new Error("out of a timer"); });
  all.fills = () => { const all = []; for (;;) all.push(Array.from({ length: 1000 }, (_, i) => all.length + "-" + i)); };
  /** One function, so that Lua need not name others to Node just before it calls. */
  export const run = (name, ...args) => all[name](...args);
`;

type Inline = boolean;

const stats = async (nginx: Nginx): Promise<Stats & { sync_inline: number; sync_waited: number }> =>
  (await statsOf(nginx)) as Stats & { sync_inline: number; sync_waited: number };

/** Calls functions in one turn of nginx's loop. */
const locations = {
  // Node's thread has had time to go to sleep.
  "/call": content(`
    ngx.sleep(0.02)
    t.reply(ts.call_sync(ts.import("inline.ts").run, tonumber(ngx.var.arg_ms), ngx.var.arg_fn))`),
  // In parts, which are sent to Node's thread.
  "/large": content(`
    local run = ts.import("inline.ts").run
    local text = string.rep("x", 600000)
    local all = {}
    for n = 1, 20 do
      ngx.sleep(0.005)
      ts.call_sync(run, 5000, "one")
      all[#all + 1] = ts.call_sync(run, 5000, "thread", text)
    end
    t.reply(all)`),
  // What was sent before it is handled before it, on the worker's own thread, too.
  "/behind": content(`
    local run = ts.import("inline.ts").run
    -- Not while Node remembers that something was slow: a module's first call is.
    local inline
    repeat
      inline = ts.stats().sync_inline
      ts.notify(run, "push", 1)
      ts.call_sync(run, 5000, "taken")
      ngx.sleep(0.02)
    until ngx.var.arg_inline == "false" or ts.stats().sync_inline > inline
    local before = ngx.thread.spawn(function()
      return select(3, ts.call(run, { timeout_ms = 100 }, ngx.var.arg_fn))
    end)
    local value = ts.call_sync(run, 60000, "one")
    t.reply({ value, select(2, ngx.thread.wait(before)) })`),
  "/order": content(`
    local run = ts.import("inline.ts").run
    local all = {}
    for n = 1, 50 do
      ts.notify(run, "push", n)
      if n % 7 == 0 then ngx.sleep(0.002) end
      for _, one in ipairs(ts.call_sync(run, 5000, "taken")) do all[#all + 1] = one end
    end
    t.reply(all)`),
};

function withInline(
  inline: Inline,
  body: (nginx: Nginx) => Promise<void>,
  more = {},
): Promise<void> {
  return withNginx(
    {
      ts: { sync_inline: inline, ...more },
      modules: { "inline.ts": MODULE },
      locations,
      allowLog: [/on purpose/, /resty\.ts: /, /out of a timer/],
    },
    async (nginx) => {
      await untilState(nginx, "ready");
      // The module is loaded with its first call.
      await nginx.json("/call?fn=one&ms=5000");
      await body(nginx);
      const { sync_inline: count } = await stats(nginx);
      assert.equal(count > 0, inline);
    },
  );
}

const call = <T>(nginx: Nginx, fn: string, ms = 5000): Promise<Answer<T>> =>
  nginx.json<Answer<T>>(`/call?fn=${fn}&ms=${String(ms)}`);

for (const inline of [true, false]) {
  describe(`synchronous calls, sync_inline ${inline ? "on" : "off"}`, () => {
    test("run on the thread that they should", () =>
      withInline(inline, async (nginx) => {
        const pid = String(nginx.workerPid());
        await until("one is answered there", async () => {
          const { value } = await call<string>(nginx, "thread");
          return (value === `${pid}/task/${pid}`) === inline;
        });
      }));

    test("begin in the order in which they came, with what was sent before them", () =>
      withInline(inline, async (nginx) => {
        const { value } = await nginx.json<Answer<number[]>>("/order");
        assert.deepEqual(
          value,
          Array.from({ length: 50 }, (_, i) => i + 1),
        );
      }));

    test("run on Node's thread where they carry much, after others that do not", () =>
      withInline(inline, async (nginx) => {
        const { value } = await nginx.json<Answer<string[]>>("/large");
        const pid = String(nginx.workerPid());
        assert.equal(value?.length, 20);
        assert.ok(value.every((thread) => thread !== `${pid}/task/${pid}`));
      }));

    test("answer, fail and refuse alike", () =>
      withInline(inline, async (nginx) => {
        assert.deepEqual((await call(nginx, "later")).code, undefined);
        for (const fn of ["throws", "rejects"]) {
          const { code, err } = await call(nginx, fn);
          assert.deepEqual([code, err], ["handler_failed", "handler failed: on purpose"]);
        }
        assert.equal((await call(nginx, "carriesNothing")).code, "bad_result");
        assert.equal((await call(nginx, "deep")).value, "RangeError");
        assert.equal((await call(nginx, "nice")).value, inline ? "EPERM" : "set");
      }));

    test("leave ticks, promises, timers, files, sockets and workers to Node, with their context", () =>
      withInline(inline, async (nginx) => {
        const wanted = ["file", "immediate", "promise", "socket", "tick", "timer", "worker"];
        for (let i = 0; i < 5; i++) {
          await call(nginx, "schedules");
          const seen: string[] = [];
          await until("all has come", async () => {
            const { value } = await call<string[]>(nginx, "taken");
            // Lua has one kind of empty table.
            if (Array.isArray(value)) seen.push(...value);
            return seen.length === wanted.length;
          });
          assert.deepEqual(
            seen.sort(),
            wanted.map((what) => `${what} own`),
          );
        }
      }));

    test("start threads that take no signal of nginx's", () =>
      withInline(inline, async (nginx) => {
        await call(nginx, "starts");
        const pid = nginx.workerPid();
        const others = threadsOf(pid).filter(({ tid }) => tid !== pid);
        assert.ok(others.length > 3);
        for (const { name, blocked } of others)
          assert.ok(blocked > 2n ** 61n, `${name}: ${blocked}`);
      }));

    for (const fn of ["spins", "waits", "sorts"]) {
      test(`have their deadline where a handler ${fn} for ever`, () =>
        withInline(inline, async (nginx) => {
          const { code } = await call(nginx, fn, 60);
          assert.equal(code, "timeout");
          await until("Node answers again", async () => {
            const { value } = await call(nginx, "one");
            return value !== undefined;
          });
          const { lives, pending } = await stats(nginx);
          // Off, the handler goes on in Node's thread until its environment is ended.
          assert.deepEqual([lives, pending], [inline ? 1 : 2, 0]);
        }));
    }

    for (const fn of ["spins", "waits"]) {
      test(`do not wait until their own deadline for one before them that ${fn} for ever`, () =>
        withInline(
          inline,
          async (nginx) => {
            const { value } = await nginx.json<Answer<unknown[]>>(
              `/behind?fn=${fn}&inline=${inline}`,
            );
            assert.deepEqual(value, [1, "stalled"]);
            assert.equal((await stats(nginx)).lives, 2);
          },
          { stall_ms: 200 },
        ));
    }

    test("wait for what a handler waits for in native code", () =>
      withInline(inline, async (nginx) => {
        assert.equal((await call(nginx, "sleeps")).value, "slept");
        // The worker, too.
        if (inline) assert.equal((await call(nginx, "sleeps", 60)).code, "timeout");
        assert.equal((await stats(nginx)).lives, 1);
      }));

    test("fail with an environment that ends, and another one answers", () =>
      withInline(
        inline,
        async (nginx) => {
          for (const [fn, code] of [
            ["exits", "exited"],
            ["fills", "out_of_memory"],
          ] as const) {
            assert.equal((await call(nginx, fn, 30_000)).code, code);
            await until("another one answers", async () => (await call(nginx, "thread")).value);
          }
          await call(nginx, "fails");
          await until("it has ended", async () => (await stats(nginx)).exited === 2);
        },
        { max_heap_mb: 64 },
      ));
  });
}
