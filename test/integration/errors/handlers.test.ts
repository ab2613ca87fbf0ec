/** Handlers that throw, reject, answer what cannot be carried, never answer, or end everything. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilIdle, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

const fault = content(`
  local arg = ngx.var.arg_arg
  t.reply(ts.import("faults.ts")[ngx.var.arg_fn](tonumber(arg) or arg))`);
const add = content(`t.reply(ts.import("calc.ts").add(1, 2))`);
const seen = content(`t.reply(ts.import("wait.ts", { timeout_ms = 10000 }).seen())`);

interface Seen {
  started: number;
  aborted: number;
  finished: number;
  reason: string;
}

async function seenBy(nginx: Nginx): Promise<Seen> {
  const answer = await nginx.json<Answer<Seen>>("/seen");
  assert.ok(answer.value, answer.err);
  return answer.value;
}

describe("a handler that fails", () => {
  const cases: [string, string, string, RegExp][] = [
    ["throws", "throwError", "sour%20milk", /^handler failed: .*sour.*milk/],
    ["rejects", "reject", "sour%20milk", /^handler failed: .*sour.*milk/],
    ["throws a string", "throwValue", "plain", /^handler failed: .*plain/],
    ["throws a number", "throwValue", "17", /^handler failed: .*17/],
    ["throws nothing at all", "throwValue", "", /^handler failed/],
  ];
  test("the caller gets handler_failed and the message, the stack goes to the log, the worker stays", async (t) => {
    await withNginx(
      { ts: {}, locations: { "/fault": fault, "/add": add }, allowLog: [/\[error\]/] },
      async (nginx) => {
        const worker = nginx.workerPid();
        for (const [title, fn, arg, message] of cases) {
          await t.test(title, async () => {
            const reply = await nginx.ask(`/fault?fn=${fn}&arg=${arg}`);
            const answer = reply.json<Answer>();
            assert.equal(answer.value, undefined);
            assert.equal(answer.code, "handler_failed");
            assert.match(answer.err ?? "", message);
            assert.doesNotMatch(reply.text, /\.ts:\d+/, "no stack for the client");
          });
        }
        await nginx.waitForLog(/faults\.ts:\d+/);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal(nginx.workerPid(), worker);
        const stats = await statsOf(nginx);
        assert.equal(stats.pending, 0);
        assert.ok(stats.failed >= cases.length);
      },
    );
  });

  test("a notification that fails is told in the error log", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/x": content(`t.reply(ts.notify(ts.import("faults.ts").throwError, "nobody waits"))`),
          "/add": add,
        },
        allowLog: [/\[error\]/],
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/x"), { value: true });
        await nginx.waitForLog(/nobody waits/);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));
});

describe("a result that Lua cannot represent", () => {
  const cases: [string, string, RegExp][] = [
    ["a function", "returnFunction", /function/],
    ["a function deep inside", "returnNestedFunction", /inner/],
    ["a symbol", "returnSymbol", /symbol/],
    ["a Map", "returnMap", /Map/],
    ["a cycle", "returnCycle", /cycl|circular|deep/],
    ["1,000 levels", "returnDeep", /deep/],
    ["a bigint past 64 bits", "returnHugeBigint", /bigint/i],
  ];
  test("is bad_result and says what it is, and the worker stays", async (t) => {
    await withNginx(
      {
        ts: {},
        locations: { "/fault": fault, "/add": add },
        allowLog: [/\[error\].*faults\.ts return/],
      },
      async (nginx) => {
        const worker = nginx.workerPid();
        for (const [title, fn, says] of cases) {
          await t.test(`${title} is bad_result`, async () => {
            const answer = await nginx.json<Answer>(`/fault?fn=${fn}&arg=1000`);
            assert.equal(answer.value, undefined);
            assert.equal(answer.code, "bad_result", answer.err);
            assert.match(answer.err ?? "", /^bad result/);
            assert.match(answer.err ?? "", says);
          });
        }
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal(nginx.workerPid(), worker);
        assert.equal((await statsOf(nginx)).pending, 0);
      },
    );
  });

  test("a result past max_message_bytes is too_large", () =>
    withNginx(
      {
        ts: { max_message_bytes: 1 << 20 },
        locations: { "/fault": fault, "/add": add },
        allowLog: [/\[error\].*faults\.ts return/],
      },
      async (nginx) => {
        const answer = await nginx.json<Answer>(`/fault?fn=returnBytes&arg=${String(2 << 20)}`);
        assert.equal(answer.code, "too_large");
        assert.match(answer.err ?? "", /max_message_bytes/);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));
});

describe("a deadline", () => {
  test("a handler that never settles is a timeout for the caller and an abort for the handler", () =>
    withNginx(
      {
        ts: { timeout_ms: 150 },
        locations: {
          "/never": content(`t.reply(ts.import("wait.ts").never())`),
          "/abort": content(`t.reply(ts.import("wait.ts").untilAborted())`),
          "/seen": seen,
          "/add": add,
        },
      },
      async (nginx) => {
        // Not one of the calls is to be over before its module is there.
        await until("the module is loaded", async () => (await seenBy(nginx)).aborted === 0);
        const answers = await Promise.all(
          Array.from({ length: 20 }, (_, i) =>
            nginx.json<Answer>(i % 2 === 0 ? "/never" : "/abort"),
          ),
        );
        for (const answer of answers) {
          assert.equal(answer.code, "timeout");
          assert.match(answer.err ?? "", /^timeout/);
        }
        await until("all handlers saw the abort", async () => {
          return (await seenBy(nginx)).aborted === 20;
        });
        assert.equal((await seenBy(nginx)).reason, "timeout");
        await untilIdle(nginx);
        assert.ok((await statsOf(nginx)).timeouts >= 20);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("a call's own deadline wins over its import's, and that over the start's", () =>
    withNginx(
      {
        ts: { timeout_ms: 60_000 },
        locations: {
          "/start": content(`t.reply(ts.import("wait.ts").remaining())`),
          "/import": content(`t.reply(ts.import("wait.ts", { timeout_ms = 30000 }).remaining())`),
          "/call": content(`
            t.reply(ts.call(ts.import("wait.ts", { timeout_ms = 30000 }).remaining,
                            { timeout_ms = 10000 }))`),
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const bounds: [string, number, number][] = [
          ["/start", 30_000, 60_000],
          ["/import", 10_000, 30_000],
          ["/call", 0, 10_000],
        ];
        for (const [path, low, high] of bounds) {
          const answer = await nginx.json<Answer<number>>(path);
          assert.ok(answer.value !== undefined, answer.err);
          // Lua and the host count whole milliseconds.
          assert.ok(
            answer.value > low && answer.value <= high + 2,
            `${path}: ${String(answer.value)}`,
          );
        }
      },
    ));

  test("a handler that holds the thread makes others time out, and all is well when it lets go", () =>
    withNginx(
      {
        ts: { timeout_ms: 100, stall_ms: 10_000 },
        locations: {
          "/spin": content(`t.reply(ts.import("wait.ts").spin(1000))`),
          "/add": add,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const [spin, first] = await Promise.all([
          nginx.json<Answer>("/spin"),
          nginx.json<Answer>("/add"),
        ]);
        assert.equal(spin.code, "timeout");
        assert.ok(first.code === "timeout" || first.value === 3);
        await until("calls are answered again", async () => {
          return (await nginx.json<Answer>("/add")).value === 3;
        });
        await untilIdle(nginx);
      },
    ));
});

describe("a client that leaves in the middle", () => {
  const leave = async (nginx: Nginx, path: string, count: number): Promise<void> => {
    const controllers = Array.from({ length: count }, () => new AbortController());
    const asked = controllers.map((controller) =>
      nginx.ask(path, { signal: controller.signal }).then(
        () => "answered",
        () => "left",
      ),
    );
    await until("all handlers run", async () => (await seenBy(nginx)).started >= count);
    for (const controller of controllers) controller.abort();
    assert.deepEqual(new Set(await Promise.all(asked)), new Set(["left"]));
  };

  test("the handler's signal fires and nothing is leaked where nginx watches the client", () =>
    withNginx(
      {
        ts: { timeout_ms: 60_000 },
        server: "lua_check_client_abort on;",
        locations: {
          "/never": content(`t.reply(ts.import("wait.ts").never())`),
          "/seen": seen,
          "/add": add,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        await leave(nginx, "/never", 20);
        await until("all handlers saw the abort", async () => {
          return (await seenBy(nginx)).aborted === 20;
        });
        assert.equal((await seenBy(nginx)).reason, "aborted");
        await untilIdle(nginx);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));

  test("the call ends as if nothing had happened where nginx does not watch the client", () =>
    withNginx(
      {
        ts: { timeout_ms: 60_000 },
        locations: {
          "/gate": content(`
            t.reply(ts.import("wait.ts").gate(ngx.config.prefix() .. "gate", 1))`),
          "/open": content(`
            io.open(ngx.config.prefix() .. "gate", "w"):close()
            t.json(true)`),
          "/seen": seen,
          "/add": add,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        await leave(nginx, "/gate", 10);
        await nginx.json("/open");
        await untilIdle(nginx);
        assert.equal((await seenBy(nginx)).finished, 10);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      },
    ));
});

describe("an environment that ends", () => {
  const ends: [string, string, RegExp][] = [
    ["process.exit", "/fault?fn=exit&arg=3", /exit/],
    ["an error thrown out of a timer", "/fault?fn=throwLater&arg=boom", /boom/],
  ];
  for (const [title, path, logged] of ends) {
    test(`${title} in a handler fails the calls in flight as exited, and the worker stays`, () =>
      withNginx(
        {
          ts: { timeout_ms: 20_000 },
          locations: {
            "/fault": fault,
            "/never": content(`t.reply(ts.import("wait.ts").never())`),
            "/seen": seen,
            "/add": add,
            "/plain": `return 200 "nginx is here";`,
          },
          allowLog: [/\[error\]/, /\[alert\].*(?:exit|ended|boom)/],
        },
        async (nginx) => {
          await untilState(nginx, "ready");
          const worker = nginx.workerPid();
          const waiting = Array.from({ length: 10 }, () => nginx.json<Answer>("/never"));
          await until("all handlers run", async () => (await seenBy(nginx)).started === 10);
          await nginx.json(path);
          for (const answer of await Promise.all(waiting)) {
            assert.equal(answer.code, "exited", answer.err);
            assert.match(answer.err ?? "", /exited/);
          }
          await nginx.waitForLog(logged);
          assert.equal((await nginx.ask("/plain")).text, "nginx is here");
          const after = await nginx.json<Answer>("/add");
          assert.ok(
            after.value === 3 || after.code === "exited" || after.code === "unavailable",
            JSON.stringify(after),
          );
          await untilIdle(nginx);
          assert.equal(nginx.workerPid(), worker);
        },
      ));
  }

  test("a rejection that nobody handles is logged, and calls go on", () =>
    withNginx(
      { ts: {}, locations: { "/fault": fault, "/add": add }, allowLog: [/\[error\].*boom/] },
      async (nginx) => {
        const answer = await nginx.json("/fault?fn=rejectUnhandled&arg=boom");
        assert.deepEqual(answer, { value: "rejected" });
        await nginx.waitForLog(/\[error\].*boom/);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal((await statsOf(nginx)).state, "ready");
      },
    ));

  test("a handler may not change the process that it is a guest of", () =>
    withNginx(
      {
        ts: {},
        locations: {
          "/touch": content(`t.reply(ts.import("env.ts").touchProcess(ngx.var.arg_what))`),
          "/about": content(`t.reply(ts.import("env.ts").about())`),
        },
        allowLog: [/\[error\]/],
      },
      async (nginx) => {
        for (const what of ["chdir", "umask", "setuid"]) {
          const answer = await nginx.json<Answer>(`/touch?what=${what}`);
          assert.equal(answer.code, "handler_failed", what);
        }
        const about = await nginx.json<Answer<{ cwd: string }>>("/about");
        assert.equal(about.value?.cwd, nginx.prefix);
      },
    ));
});
