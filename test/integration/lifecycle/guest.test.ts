/** Node is a guest in the worker: what belongs to nginx is the same with it and without. */
import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { describe, test } from "node:test";
import { until } from "../../support/deadline.js";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { wrk } from "../../support/clients.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content, plainContent } from "../../support/nginx-config.js";
import {
  inspect,
  signalsIn,
  threadsOf,
  titleOf,
  unixSocketPathsOf,
  mappingsOf,
  childrenOf,
} from "../../support/proc.js";

/** Real-time signals 32 and 33 are the C library's own, for its threads. */
const LIBC_SIGNALS = new Set([32, 33]);

function ownSignals(bits: bigint): number[] {
  return signalsIn(bits).filter((signal) => !LIBC_SIGNALS.has(signal));
}

function belongings(nginx: Nginx): Record<string, unknown> {
  const worker = inspect(nginx.workerPid());
  const stdio = [0, 1, 2].map((fd) => worker.descriptors.get(fd)?.replace(nginx.prefix, "PREFIX"));
  return {
    caught: ownSignals(worker.caught),
    ignored: ownSignals(worker.ignored),
    blocked: ownSignals(worker.blocked),
    openFiles: worker.openFiles,
    stdio,
    cwd: worker.cwd.replace(nginx.prefix, "PREFIX"),
    umask: worker.umask,
    title: worker.title,
    name: threadsOf(worker.pid)[0]?.name,
    uid: worker.uid,
    gid: worker.gid,
  };
}

function coresOf(pid: number, tid: number): string {
  const status = readFileSync(`/proc/${String(pid)}/task/${String(tid)}/status`, "latin1");
  return /^Cpus_allowed_list:\s*(.*)$/m.exec(status)![1]!;
}

/** The lower soft limit is the one that Node would raise. */
const wrapper = ["prlimit", "--nofile=1024:4096"];

const locations = {
  "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
  "/children": content(`t.reply(ts.import("children.ts").statuses(10, 5))`),
  "/about": content(`t.reply(ts.import("env.ts").about())`),
};

describe("Node in the worker", () => {
  test("leaves signals, masks, limits, stdio, title, directory and umask as nginx made them", async () => {
    const without = await withNginx({ wrapper }, belongings);
    await withNginx({ wrapper, ts: {}, locations }, async (nginx) => {
      await untilState(nginx, "ready");
      assert.deepEqual(belongings(nginx), without);
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
      assert.deepEqual(belongings(nginx), without);
    });
  });

  test("leaves them so after its child processes and after its end", async () => {
    const without = await withNginx({ wrapper }, belongings);
    await withNginx(
      { wrapper, ts: {}, locations: { ...locations, "/stop": content(`t.reply(ts.stop())`) } },
      async (nginx) => {
        const statuses = await nginx.json<Answer<number[]>>("/children");
        assert.equal(statuses.value?.length, 10);
        assert.deepEqual(belongings(nginx), without, "after children");
        const running = threadsOf(nginx.workerPid()).length;
        await nginx.json("/stop");
        assert.deepEqual(belongings(nginx), without, "after the end");
        // V8's and libuv's helpers are the process's, and idle; the environment's own is gone.
        assert.ok(threadsOf(nginx.workerPid()).length < running);
      },
    );
  });

  test("blocks all signals in its own threads, so that nginx's are delivered to nginx", () =>
    withNginx({ ts: {}, locations }, async (nginx) => {
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
      const [main, ...others] = threadsOf(nginx.workerPid());
      assert.ok(main && others.length > 0);
      for (const thread of others) {
        const open = [1, 2, 3, 10, 12, 13, 14, 15, 17, 28, 29].filter(
          (signal) => !((thread.blocked >> BigInt(signal - 1)) & 1n),
        );
        assert.deepEqual(open, [], `${thread.name} takes signals`);
      }
    }));

  const cpus = availableParallelism();
  for (const [name, ts] of Object.entries({
    embedded: { runtime: "embedded" },
    process: { runtime: "process" },
  })) {
    test(
      `${name}: stays on the cores that worker_cpu_affinity gives the worker`,
      { skip: cpus < 2 && "one core" },
      () =>
        withNginx({ main: "worker_cpu_affinity 10;", ts, locations }, async (nginx) => {
          assert.deepEqual(await nginx.json("/add"), { value: 3 });
          const worker = nginx.workerPid();
          await wrk(`${nginx.url}/add`, { connections: 16, seconds: 1 });
          for (const pid of [worker, ...childrenOf(worker)]) {
            for (const { tid } of threadsOf(pid))
              assert.equal(coresOf(pid, tid), "1", titleOf(pid));
          }
        }),
    );
  }

  test("shared: the host of all workers has nginx's cores", { skip: cpus < 2 && "one core" }, () =>
    withNginx(
      { workers: 2, main: "worker_cpu_affinity 01 10;", ts: { shared: true }, locations },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        const host = (await statsOf(nginx)).process_id!;
        assert.equal(coresOf(host, host), coresOf(nginx.masterPid, nginx.masterPid));
      },
    ),
  );

  for (const tuned of [true, false]) {
    test(
      `with tune_malloc = ${String(tuned)} glibc's thresholds are ${tuned ? "fixed" : "its own"}`,
      // The sanitizers have a malloc of their own.
      { skip: process.env["RTS_NGINX_PRELOAD"] !== undefined },
      () =>
        withNginx(
          {
            ts: { tune_malloc: tuned },
            locations: {
              ...locations,
              // A block of that size is mapped by itself, or, when one of that size was freed before, is not.
              "/mapped": content(`
                local ffi = require "ffi"
                pcall(ffi.cdef, "void *malloc(size_t); void free(void *);")
                ffi.C.free(ffi.C.malloc(1048576))
                local block = ffi.C.malloc(1048576)
                local size = ffi.cast("size_t *", block)[-1]
                ffi.C.free(block)
                t.reply(tonumber(size) % 4 >= 2)`),
            },
          },
          async (nginx) => {
            assert.deepEqual(await nginx.json("/add"), { value: 3 });
            assert.deepEqual(await nginx.json("/mapped"), { value: tuned });
          },
        ),
    );
  }

  test("gives its descriptors back when it is stopped and started again and again", () =>
    withNginx(
      {
        ts: {},
        locations: {
          ...locations,
          "/restart": content(`
            local ok, err, code = ts.stop()
            collectgarbage()
            collectgarbage()
            if ok == nil and err then return t.reply(ok, err, code) end
            t.reply(t.start {})`),
        },
      },
      async (nginx) => {
        const count = async (): Promise<[number, number]> => {
          assert.deepEqual(await nginx.json("/add"), { value: 3 });
          const pid = nginx.workerPid();
          return [inspect(pid).descriptors.size, threadsOf(pid).length];
        };
        assert.deepEqual(await nginx.json("/restart"), { value: true });
        const before = await count();
        for (let i = 0; i < 15; i++) {
          assert.deepEqual(await nginx.json("/restart"), { value: true });
          if (i % 3 !== 0) await untilState(nginx, "ready");
        }
        // The compiler's pipes and the doorbell's socket close a moment later, before as after.
        await until("no more descriptors and threads than before", async () => {
          const [descriptors, threads] = await count();
          return descriptors <= before[0] && threads <= before[1];
        });
      },
    ));

  test("has its socket in a private folder of /tmp when not told, and both are gone once it is connected", () =>
    withNginx(
      {
        initWorker: `require("resty.ts").start { modules = ngx.config.prefix() .. "modules" }`,
        locations,
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        const paths = unixSocketPathsOf(nginx.workerPid()).filter((path) => /resty-ts/.test(path));
        assert.ok(paths.length > 0);
        for (const path of paths) {
          assert.match(path, /^\/tmp\/resty-ts-[^/]+\/[^/]+$/);
          assert.ok(!existsSync(path), path);
          assert.ok(!existsSync(dirname(path)), path);
        }
      },
    ));

  test("lets the worker load and unload libraries of its own while Node starts", () =>
    withNginx(
      {
        // As `require "cjson"` does in the first request: both sides are in the dynamic linker.
        initWorker: `
          local ffi = require "ffi"
          ffi.cdef "void *dlopen(const char *, int); int dlclose(void *);"
          local ts = require "resty.ts"
          ts.start { modules = ngx.config.prefix() .. "modules" }
          local path = package.searchpath("cjson", package.cpath)
          for _ = 1, 3000 do
              assert(ffi.C.dlclose(assert(ffi.C.dlopen(path, 2))) == 0)
          end`,
        locations,
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("runs in a working directory that may not be written", () =>
    withNginx(
      {
        cwd: "/proc",
        ts: {},
        locations,
      },
      async (nginx) => {
        assert.equal(inspect(nginx.workerPid()).cwd, "/proc");
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal((await nginx.json<Answer<{ cwd: string }>>("/about")).value?.cwd, "/proc");
      },
    ));
});

describe("processes of nginx that are no workers", () => {
  /** Threads of Node, or a mapped libnode, in a process. */
  function hasNode(pid: number): boolean {
    return threadsOf(pid).length > 1 || mappingsOf(pid).some((file) => /libnode/.test(file));
  }

  test("cache manager and master run no Node", () =>
    withNginx(
      {
        ts: {},
        http: "proxy_cache_path temp/cache keys_zone=cache:1m;",
        locations,
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        const helpers = childrenOf(nginx.masterPid).filter((pid) => pid !== nginx.workerPid());
        assert.ok(helpers.some((pid) => /cache manager/.test(titleOf(pid))));
        for (const pid of [nginx.masterPid, ...helpers]) assert.ok(!hasNode(pid), titleOf(pid));
        assert.ok(hasNode(nginx.workerPid()));
      },
    ));

  test("the privileged agent runs no Node", async (t) => {
    // Stock nginx has no privileged agent: it takes a patch of OpenResty's.
    const enable = `
      agent_ok, agent_err = require("ngx.process").enable_privileged_agent()`;
    const options: NginxOptions = {
      init: enable,
      ts: {},
      locations: {
        ...locations,
        "/agent": plainContent(`ngx.print(tostring(agent_ok), " ", tostring(agent_err))`),
      },
    };
    await withNginx(options, async (nginx) => {
      const enabled = (await nginx.ask("/agent")).text;
      if (!enabled.startsWith("true")) {
        t.skip(enabled);
        return;
      }
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
      const agents = childrenOf(nginx.masterPid).filter((pid) => /agent/.test(titleOf(pid)));
      assert.equal(agents.length, 1);
      for (const pid of agents) assert.ok(!hasNode(pid));
    });
  });

  test("a process that nginx calls its privileged agent runs no Node", () =>
    withNginx(
      {
        // The same without the patch: only the name is borrowed.
        beforeStart: `require("ngx.process").type = function() return "privileged agent" end`,
        ts: {},
        locations: {
          "/state": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
        },
      },
      async (nginx) => {
        const answer = await nginx.json<Answer>("/state");
        assert.equal(answer.value, undefined);
        assert.equal(typeof answer.code, "string");
        assert.ok(!hasNode(nginx.workerPid()));
      },
    ));
});
