/** Child processes of handlers and of Lua in one worker: each reaps its own. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { type Answer, statsOf } from "../../support/bridge.js";
import { repeatUntil, until } from "../../support/deadline.js";
import { wrk } from "../../support/clients.js";
import { withNginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { descriptorsOf, titleOf, zombiesOf } from "../../support/proc.js";

const COUNT = 400;

const options: NginxOptions = {
  ts: { timeout_ms: 60_000 },
  locations: {
    "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
    "/cores": content(`t.reply(ts.import("children.ts").cores())`),
    "/linger": content(`t.reply(ts.import("children.ts").linger())`),
    "/node": content(`t.reply(ts.import("children.ts").statuses(${String(COUNT)}, 20))`),
    "/node-blocked": content(`t.reply(ts.import("children.ts").whileBlocked(1300, 3))`),
    "/node-output": content(`
      local texts = {}
      for i = 1, 100 do texts[i] = "text " .. i end
      t.reply(ts.import("children.ts").outputs(texts))`),
    // One after the other: os.execute and io.popen block the worker while a child runs.
    "/lua": content(`
      local bad = {}
      for i = 1, 10 do
          -- A LuaJIT with Lua 5.2's ways, as Debian forky's, returns nil, "exit" and the code.
          local status, _, code = os.execute("exit " .. i)
          if (code or status / 256) ~= i then bad[#bad + 1] = "execute " .. i .. ": " .. tostring(status) end
          local pipe = io.popen("echo line " .. i)
          local line = pipe:read("*l")
          pipe:close()
          if line ~= "line " .. i then bad[#bad + 1] = "popen: " .. tostring(line) end
      end
      t.json { bad = bad }`),
    "/pipe": content(`
      local loaded, pipe = pcall(require, "ngx.pipe")
      if not loaded then return t.json { skip = tostring(pipe) } end
      local bad = {}
      for i = 1, 10 do
          local proc = assert(pipe.spawn({ "sh", "-c", "echo " .. i .. "; exit " .. i }))
          local line = proc:stdout_read_line()
          local ok, reason, status = proc:wait()
          if line ~= tostring(i) or status ~= i then
              bad[#bad + 1] = i .. ": " .. tostring(line) .. " " .. tostring(reason) ..
                              " " .. tostring(status)
          end
      end
      t.json { bad = bad }`),
  },
};

const statuses = Array.from({ length: COUNT }, (_, i) => i % 100);

describe("child processes", () => {
  test("a handler's child has what it was given, and none of nginx's sockets", () =>
    withNginx(options, async (nginx) => {
      // The answer's end is the connection's: it would not come while the child had it open.
      const { value: pid } = await nginx.json<Answer<number>>("/linger", { timeoutMs: 5000 });
      assert.ok(pid !== undefined);
      try {
        await until("the child runs its own program", () => titleOf(pid) === "sleep 30");
        assert.deepEqual([...descriptorsOf(pid).keys()].sort(), [0, 1, 2, 3]);
      } finally {
        process.kill(pid);
      }
    }));

  test("a handler and its children may run on every core of the worker's, also under load", () =>
    withNginx(options, async (nginx) => {
      const status = readFileSync("/proc/self/status", "utf8");
      const all = /^Cpus_allowed_list:\s*(.*)$/m.exec(status)![1]!;
      const load = wrk(`${nginx.url}/add`, { connections: 64, seconds: 3 });
      // Now and then: Node must have come back to what it does in between.
      let calls = 0;
      await repeatUntil(load, async () => {
        const stats = await statsOf(nginx);
        if (stats.calls < calls + 2000) return;
        const answer = await nginx.json<Answer<string[]>>("/cores");
        assert.deepEqual(answer.value, [all, all], answer.err);
        calls = stats.calls;
      });
      assert.ok(calls > 0, "no load");
      assert.equal((await load).non2xx, 0);
    }));

  test("a handler's children report their own exit statuses and leave no zombie", () =>
    withNginx(options, async (nginx) => {
      const answer = await nginx.json<Answer<number[]>>("/node", { timeoutMs: 60_000 });
      assert.deepEqual(answer.value, statuses, answer.err);
      const outputs = await nginx.json<Answer<string[]>>("/node-output");
      assert.deepEqual(
        outputs.value,
        Array.from({ length: 100 }, (_, i) => `text ${String(i + 1)}`),
      );
      await until("no zombie", () => zombiesOf(nginx.workerPid()).length === 0);
    }));

  test("more children than a thousand end while Node's loop is blocked, and none is lost", () =>
    withNginx(options, async (nginx) => {
      const answer = await nginx.json<Answer<number>>("/node-blocked", { timeoutMs: 60_000 });
      assert.equal(answer.value, 1300, answer.err);
    }));

  test("children of handlers and of os.execute and io.popen, at once, each reach their parent", () =>
    withNginx(options, async (nginx) => {
      assert.deepEqual(await nginx.json("/lua"), { bad: {} }, "before Node had children");
      const node = nginx.json<Answer<number[]>>("/node", { timeoutMs: 60_000 });
      const rounds = await repeatUntil(node, async () => {
        assert.deepEqual(await nginx.json("/lua"), { bad: {} });
      });
      const lua = rounds * 20;
      assert.deepEqual((await node).value, statuses, (await node).err);
      assert.ok(lua >= 100, `only ${String(lua)} children of Lua meanwhile`);
      assert.deepEqual(await nginx.json("/lua"), { bad: {} }, "after Node had children");
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
      await until("no zombie", () => zombiesOf(nginx.workerPid()).length === 0);
    }));

  test("children of handlers and of ngx.pipe, at once, each reach their parent", (t) =>
    withNginx(options, async (nginx) => {
      const first = await nginx.json<{ skip?: string; bad?: unknown }>("/pipe");
      if (first.skip !== undefined) {
        t.skip(first.skip);
        return;
      }
      const node = nginx.json<Answer<number[]>>("/node", { timeoutMs: 60_000 });
      await repeatUntil(node, async () => {
        assert.deepEqual(await nginx.json("/pipe"), { bad: {} });
      });
      assert.deepEqual((await node).value, statuses, (await node).err);
      assert.deepEqual(await nginx.json("/pipe"), { bad: {} });
      await until("no zombie", () => zombiesOf(nginx.workerPid()).length === 0);
    }));
});
