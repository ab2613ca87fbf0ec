/** More calls than handlers can take, and messages larger than the ring. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { describe, test } from "node:test";
import { statsOf, untilIdle, untilState, type Answer } from "../../support/bridge.js";
import { KeepAlive } from "../../support/clients.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

const add = content(`t.reply(ts.import("calc.ts").add(1, 2))`);
const gate = content(`
  t.reply(ts.import("wait.ts").gate(ngx.config.prefix() .. "gate", tonumber(ngx.var.arg_n)))`);
const open = content(`
  io.open(ngx.config.prefix() .. "gate", "w"):close()
  t.json(true)`);

function sha1(bytes: Buffer): string {
  return createHash("sha1").update(bytes).digest("hex");
}

describe("a full queue", () => {
  test("calls past max_pending are refused at once, those before it are answered, and it recovers", () =>
    withNginx(
      {
        ts: { max_pending: 8, timeout_ms: 30_000 },
        locations: { "/gate": gate, "/open": open, "/add": add },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const answers: Answer<number>[] = [];
        const asked = Array.from({ length: 20 }, (_, n) =>
          nginx.json<Answer<number>>(`/gate?n=${String(n)}`).then((answer) => answers.push(answer)),
        );
        // The gate is shut: only a refusal can come back.
        await until("twelve refusals", () => answers.length === 12);
        for (const answer of answers) {
          assert.equal(answer.code, "queue_full");
          assert.match(answer.err ?? "", /^queue full/);
        }
        assert.equal((await statsOf(nginx)).pending, 8);
        assert.equal((await nginx.json<Answer>("/add")).code, "queue_full");
        await nginx.json("/open");
        await Promise.all(asked);
        const values = answers.slice(12).map((answer) => answer.value);
        assert.equal(new Set(values).size, 8);
        assert.ok(values.every((value) => typeof value === "number"));
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        await untilIdle(nginx);
      },
    ));

  test("synchronous calls are bounded by the same queue", () =>
    withNginx(
      {
        ts: { max_pending: 4, timeout_ms: 30_000 },
        locations: {
          "/gate": gate,
          "/open": open,
          "/sync": content(`t.reply(ts.call_sync(ts.import("calc.ts").add, 1000, 1, 2))`),
          "/add": add,
        },
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        const waiting = Array.from({ length: 4 }, (_, n) => nginx.json(`/gate?n=${String(n)}`));
        await until("the queue is full", async () => (await statsOf(nginx)).pending === 4);
        assert.equal((await nginx.json<Answer>("/sync")).code, "queue_full");
        await nginx.json("/open");
        await Promise.all(waiting);
        assert.deepEqual(await nginx.json("/sync"), { value: 3 });
      },
    ));

  test("a thousand callers of a slow handler all get their own answer", () =>
    withNginx(
      {
        ts: { timeout_ms: 30_000 },
        locations: {
          "/many": content(`
            local wait, calc = ts.import("wait.ts"), ts.import("calc.ts")
            local threads, wrong = {}, 0
            for i = 1, 1000 do
                threads[i] = ngx.thread.spawn(function()
                    for round = 1, 5 do
                        if wait.sleep(i % 20) ~= i % 20 then wrong = wrong + 1 end
                        if calc.add(i, round) ~= i + round then wrong = wrong + 1 end
                    end
                end)
            end
            for i = 1, 1000 do ngx.thread.wait(threads[i]) end
            t.json(wrong)`),
        },
        // 1,000 light threads of one request are more than nginx's pool of semaphores starts with.
        http: "lua_max_running_timers 2048; lua_max_pending_timers 2048;",
      },
      async (nginx) => {
        assert.equal(await nginx.json("/many", { timeoutMs: 60_000 }), 0);
        await untilIdle(nginx);
      },
    ));
});

describe("messages larger than the ring", () => {
  const SIZE = 4 << 20;
  const locations = {
    "/echo": content(`
      ngx.req.read_body()
      local body, err = ts.import("bytes.ts").echo(ts.bytes(ngx.req.get_body_data() or ""))
      if not body then
          ngx.status = 500
          return ngx.print(err)
      end
      ngx.print(body)`),
    "/length": content(`
      ngx.req.read_body()
      t.reply(ts.import("bytes.ts").length(ts.bytes(ngx.req.get_body_data() or "")))`),
    "/make": content(`
      local made, err, code = ts.import("bytes.ts").make(tonumber(ngx.var.arg_size))
      if not made then return t.reply(made, err, code) end
      ngx.header.x_digest = made.digest
      ngx.print(made.bytes)`),
    "/spin": content(`t.reply(ts.import("wait.ts").spin(tonumber(ngx.var.arg_ms)))`),
    "/add": add,
  };

  async function echo(nginx: Nginx, body: Buffer): Promise<void> {
    const reply = await nginx.ask("/echo", { method: "POST", body });
    assert.equal(reply.status, 200, reply.body.length < 1000 ? reply.text : "");
    assert.ok(reply.body.equals(body), `${String(body.length)} bytes came back changed`);
  }

  /** Resolves when a handler holds the thread, or is the next to run: nothing is read before it. */
  async function holdThread(nginx: Nginx, ms: number): Promise<{ answer: Promise<Answer> }> {
    await until("modules are loaded", async () => {
      const spun = await nginx.json<Answer>("/spin?ms=1");
      const length = await nginx.json<Answer>("/length", { method: "POST", body: "four" });
      return spun.value === 1 && length.value === 4;
    });
    const answer = nginx.json<Answer>(`/spin?ms=${String(ms)}`);
    await until("the call is in flight", async () => (await statsOf(nginx)).pending === 1);
    return { answer };
  }

  test("4 MiB pass through a ring of 64 KiB in both directions, also side by side", () =>
    withNginx({ ts: { ring_bytes: 65536, timeout_ms: 60_000 }, locations }, async (nginx) => {
      await echo(nginx, randomBytes(SIZE));
      const made = await nginx.ask(`/make?size=${String(SIZE)}`);
      assert.equal(made.body.length, SIZE);
      assert.equal(made.headers["x-digest"], sha1(made.body));
      await Promise.all([
        ...Array.from({ length: 8 }, () => echo(nginx, randomBytes(SIZE))),
        ...Array.from({ length: 8 }, async () => {
          const reply = await nginx.ask(`/make?size=${String(SIZE)}`);
          assert.equal(reply.headers["x-digest"], sha1(reply.body));
        }),
        ...Array.from({ length: 64 }, async () => {
          assert.deepEqual(await nginx.json("/add"), { value: 3 });
        }),
      ]);
      await untilIdle(nginx);
    }));

  test("every size around the ring's own passes", () =>
    withNginx({ ts: { ring_bytes: 65536, timeout_ms: 60_000 }, locations }, async (nginx) => {
      const sizes = [4096, 16384, 32768, 65536, 131072].flatMap((size) =>
        [-33, -32, -25, -24, -8, -1, 0, 1, 8, 24].map((off) => size + off),
      );
      for (const size of sizes) await echo(nginx, randomBytes(size));
    }));

  test("callers wait for room while the handler holds the thread, and none is lost", () =>
    withNginx({ ts: { ring_bytes: 65536, timeout_ms: 60_000 }, locations }, async (nginx) => {
      const spinning = await holdThread(nginx, 700);
      const pool = new KeepAlive(nginx.url, 64);
      try {
        await Promise.all(
          Array.from({ length: 64 }, async (_, i) => {
            const body = randomBytes(20_000 + i);
            const reply = await pool.ask("/length", { method: "POST", body });
            assert.deepEqual(reply.json(), { value: body.length });
          }),
        );
      } finally {
        await pool.close();
      }
      assert.deepEqual(await spinning.answer, { value: 700 });
      await untilIdle(nginx);
    }));

  test("a caller that waits for room past its deadline gets timeout, and the ring stays in order", () =>
    withNginx(
      { ts: { ring_bytes: 65536, timeout_ms: 200, stall_ms: 10_000 }, locations },
      async (nginx) => {
        const spinning = await holdThread(nginx, 1200);
        const late = await Promise.all(
          Array.from({ length: 16 }, () =>
            nginx.json<Answer>("/length", { method: "POST", body: randomBytes(300_000) }),
          ),
        );
        for (const answer of late) assert.equal(answer.code, "timeout", JSON.stringify(answer));
        assert.equal((await spinning.answer).code, "timeout");
        await until("calls are answered again", async () => {
          return (await nginx.json<Answer>("/add")).value === 3;
        });
        await untilIdle(nginx);
        for (let i = 0; i < 20; i++) await echo(nginx, randomBytes(50_000));
      },
    ));

  test("a client that leaves while its large message is under way harms no other", () =>
    withNginx(
      {
        ts: { ring_bytes: 65536, timeout_ms: 20_000 },
        server: "lua_check_client_abort on;",
        locations,
      },
      async (nginx) => {
        await untilState(nginx, "ready");
        for (let round = 0; round < 10; round++) {
          const controller = new AbortController();
          const { calls } = await statsOf(nginx);
          const spinning = nginx.json(`/spin?ms=60`);
          const leaving = nginx
            .ask("/echo", { method: "POST", body: randomBytes(SIZE), signal: controller.signal })
            .catch(() => undefined);
          await until("one is under way", async () => (await statsOf(nginx)).calls > calls);
          controller.abort();
          await Promise.all([leaving, spinning]);
          await echo(nginx, randomBytes(200_000));
        }
        await untilIdle(nginx);
      },
    ));
});
