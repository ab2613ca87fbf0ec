/** The harness itself, with configurations of pure Lua: what the other tests build on. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { curl, KeepAlive, parseWrk, wrk } from "../../support/clients.js";
import { until } from "../../support/deadline.js";
import { Nginx, withNginx } from "../../support/nginx.js";
import { plainContent } from "../../support/nginx-config.js";
import { inspect, isAlive, signalsIn } from "../../support/proc.js";

const SIGPIPE = 13;
const SIGCHLD = 17;

describe("the nginx harness", () => {
  test("a location answers what its Lua says", () =>
    withNginx(
      { locations: { "/hello": plainContent(`ngx.print("hello ", ngx.var.arg_name)`) } },
      async (nginx) => {
        const reply = await nginx.ask("/hello?name=world");
        assert.equal(reply.status, 200);
        assert.equal(reply.text, "hello world");
      },
    ));

  test("nginx can listen on a unix socket, which is gone after the stop", () =>
    withNginx(
      { listen: "unix", locations: { "/hello": plainContent(`ngx.print("hello")`) } },
      async (nginx) => {
        assert.equal((await nginx.ask("/hello")).text, "hello");
        const viaCurl = await curl("--unix-socket", nginx.socketPath ?? "", "http://x/hello");
        assert.equal(viaCurl, "hello");
      },
    ));

  test("a keep-alive pool carries many requests at once", () =>
    withNginx(
      { locations: { "/id": plainContent(`ngx.print(ngx.var.arg_id)`) } },
      async (nginx) => {
        const pool = new KeepAlive(nginx.url, 8);
        try {
          const ids = Array.from({ length: 200 }, (_, id) => String(id));
          const replies = await Promise.all(ids.map((id) => pool.ask(`/id?id=${id}`)));
          assert.deepEqual(
            replies.map((reply) => reply.text),
            ids,
          );
        } finally {
          await pool.close();
        }
      },
    ));

  test("a reload resolves when new workers serve and the old ones have gone", () =>
    withNginx(
      { workers: 2, locations: { "/pid": plainContent(`ngx.print(ngx.worker.pid())`) } },
      async (nginx) => {
        const before = nginx.workerPids();
        assert.equal(before.length, 2);
        await nginx.reload();
        const after = nginx.workerPids();
        assert.equal(after.length, 2);
        assert.ok(before.every((pid) => !after.includes(pid) && !isAlive(pid)));
        assert.ok(after.includes(Number((await nginx.ask("/pid")).text)));
      },
    ));

  test("a killed worker is replaced, and its death is reported unless the test allows it", async () => {
    await withNginx({ allowLog: [/exited on signal 9/] }, async (nginx) => {
      const old = nginx.workerPid();
      const fresh = await nginx.killWorker();
      assert.notEqual(fresh, old);
      assert.equal(nginx.workerPid(), fresh);
    });
    await assert.rejects(
      withNginx({}, (nginx) => nginx.killWorker()),
      /unexpected in the error log: .*exited on signal 9/,
    );
  });

  test("an error line that no test expects fails the stop", async () => {
    const options = { locations: { "/": plainContent(`ngx.log(ngx.ERR, "oops") ngx.print(1)`) } };
    await assert.rejects(
      withNginx(options, (nginx) => nginx.ask("/")),
      /unexpected in the error log: .*oops/,
    );
    await withNginx({ ...options, allowLog: [/oops/] }, async (nginx) => {
      await nginx.ask("/");
      await nginx.waitForLog(/\[error\].*oops/);
    });
  });

  test("a process that outlives nginx fails the stop", () =>
    assert.rejects(
      withNginx(
        { locations: { "/": plainContent(`os.execute("sleep 60 >&- 2>&- &") ngx.print(1)`) } },
        (nginx) => nginx.ask("/"),
      ),
      /process left: \d+ sleep 60/,
    ));

  test("a socket that outlives nginx fails the stop", () =>
    assert.rejects(
      withNginx({ listen: "unix" }, async (nginx) => {
        nginx.killAll();
        await nginx.exited;
      }),
      /socket left: .*nginx\.sock/,
    ));

  test("a configuration error is told in nginx's own words", () =>
    assert.rejects(
      Nginx.start({ http: "no_such_directive on;" }),
      /nginx did not start:.*unknown directive "no_such_directive"/s,
    ));

  test("a failing body carries the error log", () =>
    assert.rejects(
      withNginx(
        { locations: { "/": plainContent(`ngx.log(ngx.WARN, "a hint") ngx.print(1)`) } },
        async (nginx) => {
          await nginx.ask("/");
          assert.fail("the body failed");
        },
      ),
      /the body failed.*a hint/s,
    ));

  test("TERM and QUIT end nginx with status 0", async () => {
    for (const signal of ["SIGTERM", "SIGQUIT"] as const) {
      await withNginx({}, async (nginx) => {
        const exit = await nginx.end(signal);
        assert.equal(exit.code, 0);
        assert.equal(exit.signal, null);
      });
    }
  });

  test("an inspected worker shows descriptors, threads, masks, limits and mappings", () =>
    withNginx({ wrapper: ["prlimit", "--nofile=1024:4096"] }, (nginx) => {
      const worker = inspect(nginx.workerPid());
      assert.equal(worker.ppid, nginx.masterPid);
      assert.equal(worker.title, "nginx: worker process");
      assert.equal(worker.cwd, nginx.prefix);
      assert.deepEqual(worker.openFiles, { soft: "1024", hard: "4096" });
      assert.equal(worker.threads.length, 1);
      assert.ok([...worker.descriptors.values()].some((link) => link.includes("eventpoll")));
      assert.equal(worker.descriptors.get(2), join(nginx.prefix, "logs", "error.log"));
      assert.ok(worker.mappings.some((file) => file.includes("ngx_http_lua_module")));
      assert.ok(signalsIn(worker.caught).includes(SIGCHLD));
      assert.ok(signalsIn(worker.ignored).includes(SIGPIPE));
      assert.equal(worker.blocked, 0n);
      assert.deepEqual(worker.zombies, []);
      assert.ok(worker.rssBytes > 1 << 20);
    }));

  test("zombies among a worker's children are seen", () =>
    withNginx(
      {
        locations: {
          "/": plainContent(`
            local ffi = require "ffi"
            ffi.cdef [[ int fork(void); void _exit(int);
                        int sigprocmask(int, const uint64_t *, void *); ]]
            -- nginx's SIGCHLD handler would reap the child: block it.
            local mask = ffi.new("uint64_t[16]")
            mask[0] = bit.lshift(1, 16)
            ffi.C.sigprocmask(0, mask, nil)
            local pid = ffi.C.fork()
            if pid == 0 then ffi.C._exit(0) end
            ngx.print(pid)`),
        },
      },
      async (nginx) => {
        const pid = Number((await nginx.ask("/")).text);
        const worker = nginx.workerPid();
        await until("the child is a zombie", () => inspect(worker).zombies.includes(pid));
        assert.deepEqual(signalsIn(inspect(worker).blocked), [SIGCHLD]);
      },
    ));
});

describe("the wrk client", () => {
  test("a report of wrk is read with its failures", () => {
    const report = parseWrk(`Running 1s test @ http://127.0.0.1:1/
  1 threads and 4 connections
  1000 requests in 1.10s, 1.00MB read
  Socket errors: connect 1, read 2, write 3, timeout 4
  Non-2xx or 3xx responses: 5
Requests/sec:    909.09
Transfer/sec:      0.91MB
`);
    assert.deepEqual(report, {
      requests: 1000,
      seconds: 1.1,
      requestsPerSecond: 909.09,
      non2xx: 5,
      socketErrors: { connect: 1, read: 2, write: 3, timeout: 4 },
    });
    assert.throws(() => parseWrk("unable to connect"), /unable to connect/);
  });

  test("wrk counts answers that are no success", () =>
    withNginx({ locations: { "/bad": plainContent(`ngx.exit(503)`) } }, async (nginx) => {
      const good = await wrk(`${nginx.url}/_up`, { connections: 4, seconds: 1 });
      assert.ok(good.requests > 0);
      assert.equal(good.non2xx, 0);
      const bad = await wrk(`${nginx.url}/bad`, { connections: 4, seconds: 1 });
      assert.equal(bad.non2xx, bad.requests);
    }));
});

test("files for a test are readable by every user below the prefix", () =>
  withNginx(
    {
      files: { "lua/extra.lua": "return { answer = 42 }" },
      ...(process.getuid?.() === 0 ? { user: "nobody nogroup" } : {}),
      locations: { "/": plainContent(`ngx.print(require("extra").answer)`) },
    },
    async (nginx) => {
      assert.equal((await nginx.ask("/")).text, "42");
    },
  ));
