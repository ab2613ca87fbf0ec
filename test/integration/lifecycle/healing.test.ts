/** Starts that are late or fail, and environments that do not end: the worker serves again, always. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { sleep, until } from "../../support/deadline.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { childrenOf, sessionMembers } from "../../support/proc.js";
import { INSTALLATION } from "../../support/project.js";

type Runtime = "embedded" | "process";

/** A second is promised, and each of two environments alone would have taken one. */
const MOST_END_MS = 1500;

const add = content(`t.reply(ts.import("calc.ts").add(1, 2))`);
const at = `const at = (name: string) => process.cwd() + "/" + name;`;
/** As in INSTALLATION, or where \`npm run build\` puts it. */
const LIBNODE = INSTALLATION.libnode ?? join(INSTALLATION.libraries, "libnode", "libnode.so.108");

/** A plugin is loaded before the first call, so its top level holds up the start. */
function holding(runtime: Runtime, topLevel: string, startTimeoutMs: number): NginxOptions {
  return {
    ts: { runtime, plugins: "plugins", start_timeout_ms: startTimeoutMs, timeout_ms: 60_000 },
    files: {
      "plugins/holds.ts": `import { existsSync, writeFileSync } from "node:fs"; ${at} ${topLevel}`,
    },
    locations: { "/add": add },
    allowLog: [/the runtime did not start/, /the handler that stalled/],
  };
}

for (const runtime of ["embedded", "process"] as const) {
  describe(`a start, ${runtime}`, () => {
    test("that is late is a start, and calls wait for it", () =>
      withNginx(holding(runtime, `while (!existsSync(at("gate")));`, 5000), async (nginx) => {
        const asked = nginx.json<Answer>("/add");
        await nginx.waitForLog(/not ready after start_timeout_ms/);
        writeFileSync(join(nginx.prefix, "gate"), "");
        assert.deepEqual(await asked, { value: 3 });
        assert.equal((await statsOf(nginx)).lives, 1);
      }));

    test("that does not come to an end is followed by another, and calls wait for that", () =>
      withNginx(
        holding(
          runtime,
          `if (!existsSync(at("once"))) { writeFileSync(at("once"), ""); for (;;); }`,
          1000,
        ),
        async (nginx) => {
          assert.deepEqual(await nginx.json("/add"), { value: 3 });
          assert.ok((await statsOf(nginx)).lives >= 2);
        },
      ));

    test("for which a file is missing is tried again when calls come", () => {
      const [option, file, target] =
        runtime === "embedded"
          ? ["libnode", "libnode.so.108", LIBNODE]
          : ["node", "node", process.execPath];
      return withNginx(
        {
          initWorker: `
            assert(require("support").start {
                runtime = "${runtime}", ${option} = ngx.config.prefix() .. "${file}",
            })`,
          locations: { "/add": add, "/_stats": content(`t.json(ts.stats())`) },
          allowLog: [/the runtime did not start/, /the next start/],
        },
        async (nginx) => {
          await untilState(nginx, "failed");
          assert.match((await nginx.json<Answer>("/add")).code ?? "", /^no_(libnode|node)$/);
          symlinkSync(target, join(nginx.prefix, file));
          await until("it serves", async () => (await nginx.json<Answer>("/add")).value === 3);
        },
      );
    });
  });
}

for (const runtime of ["embedded", "process"] as const) {
  test(`with 8 workers, busy neighbours and reloads under load no call is refused, ${runtime}`, () =>
    withNginx(
      {
        ts: { runtime, timeout_ms: 60_000, start_timeout_ms: 1000 },
        workers: 8,
        locations: { "/add": add },
        allowLog: [/the runtime did not start/, /the handler that stalled/],
      },
      async (nginx) => {
        const busy = Array.from({ length: 4 }, () => spawn("sh", ["-c", "while :; do :; done"]));
        let going = true;
        const answers: Answer[] = [];
        const load = Array.from({ length: 16 }, async () => {
          while (going) answers.push(await nginx.json<Answer>("/add", { timeoutMs: 60_000 }));
        });
        try {
          for (let i = 0; i < 3; i++) {
            const before = answers.length;
            const old = nginx.workerPids();
            nginx.signal("SIGHUP");
            await until(
              "new workers have answered",
              () =>
                answers.length > before + 100 &&
                !nginx.workerPids().some((pid) => old.includes(pid)),
              60_000,
            );
          }
        } finally {
          going = false;
          for (const one of busy) one.kill("SIGKILL");
        }
        await Promise.all(load);
        assert.deepEqual(
          answers.find(({ value }) => value !== 3),
          undefined,
        );
      },
    ));
}

test("a start for which the machine has no room is tried again", () =>
  withNginx(
    {
      ts: {},
      beforeStart: `
        local channel, errors = require "resty.ts.channel", require "resty.ts.errors"
        local create, failures = channel.create, 2
        function channel.create(self)
            failures = failures - 1
            if failures >= 0 then
                for number, code in pairs(errors.by_number) do
                    if code == "system" then
                        return nil, "memfd_create: no room", number
                    end
                end
            end
            return create(self)
        end`,
      locations: { "/add": add },
      allowLog: [/memfd_create: no room/],
    },
    async (nginx) => {
      await until("it serves", async () => (await nginx.json<Answer>("/add")).value === 3);
      assert.match(nginx.errorLog(), /no room: the next start is in 0\.2 s/);
    },
  ));

test("exit() at any moment of a start ends the worker with its status", () =>
  withNginx(
    {
      ts: { runtime: "embedded" },
      locations: { "/exit": content(`os.exit(3)`) },
      allowLog: [/exited with code 3/],
    },
    async (nginx) => {
      for (let ms = 0; ms < 500; ms += 20) {
        const worker = nginx.workerPid();
        await sleep(ms); // the moment
        await nginx.ask("/exit").catch(() => undefined);
        await until("there is another worker", () => {
          const [pid] = nginx.workerPids();
          return pid !== undefined && pid !== worker;
        });
        assert.doesNotMatch(nginx.errorLog(), /exited on signal/, `after ${String(ms)} ms`);
      }
    },
  ));

describe("environments that are blocked in native code", () => {
  /** A child that ends when there is a file. */
  const HANG = `
    import { execFileSync } from "node:child_process";
    export function hang() {
      execFileSync("sh", ["-c", "while [ ! -e gate ]; do sleep 0.05; done"]);
    }`;
  const blocked = (more: Record<string, number | boolean> = {}): NginxOptions => ({
    ts: { runtime: "embedded", timeout_ms: 100, stall_ms: 100, ...more },
    modules: { "hang.ts": HANG },
    locations: {
      "/add": content(`t.reply(ts.call(ts.import("calc.ts").add, { timeout_ms = 10000 }, 1, 2))`),
      "/hang": content(`t.reply(ts.import("hang.ts").hang())`),
    },
    allowLog: [/the environment ended/, /crash loop/, /do not end/],
  });
  const release = async (nginx: Nginx): Promise<void> => {
    writeFileSync(join(nginx.prefix, "gate"), "");
    await until("the children have ended", () =>
      nginx.exit ? sessionMembers(nginx.masterPid).length === 0 : true,
    );
  };
  const assertEndsSoon = async (nginx: Nginx, how: "SIGQUIT" | "SIGTERM"): Promise<void> => {
    const since = Date.now();
    const { code, signal, at } = await nginx.end(how);
    assert.deepEqual([code, signal], [0, null]);
    assert.ok(at - since <= MOST_END_MS, `${String(at - since)} ms`);
  };
  const block = async (nginx: Nginx, lives: number): Promise<void> => {
    await until("it is blocked", async () => {
      const children = childrenOf(nginx.workerPid()).length;
      if (children < lives) await nginx.json("/hang");
      return children === lives;
    });
  };

  test("are two at most: then no other is started until one has ended", () =>
    withNginx(blocked({ replace_worker: false }), async (nginx) => {
      await block(nginx, 2);
      await untilState(nginx, "backing_off");
      const answer = await nginx.json<Answer>("/add");
      assert.equal(answer.code, "unavailable");
      assert.match(answer.err ?? "", /2 environments do not end/);
      await nginx.waitForLog(/the next start is in 800 ms/);
      const { lives } = await statsOf(nginx);
      assert.equal(lives, 2);
      await release(nginx);
      await until("it serves", async () => (await nginx.json<Answer>("/add")).value === 3);
      assert.equal((await statsOf(nginx)).lives, 3);
    }));

  test("have nginx replace the worker when they do not end", () =>
    withNginx(blocked(), async (nginx) => {
      const worker = nginx.workerPid();
      await block(nginx, 2);
      await nginx.waitForLog(/this worker exits/);
      await until("there is another worker", () => {
        const [pid, ...others] = nginx.workerPids();
        return pid !== undefined && others.length === 0 && pid !== worker;
      });
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
      await release(nginx);
    }));

  for (const how of ["SIGQUIT", "SIGTERM"] as const) {
    test(`and were left do not hold up ${how}`, () =>
      withNginx(blocked({ replace_worker: false }), async (nginx) => {
        await block(nginx, 2);
        await untilState(nginx, "backing_off");
        await assertEndsSoon(nginx, how);
        await release(nginx);
      }));
  }

  test("all of several at once hold up SIGTERM for a second at most", () =>
    withNginx(blocked({ instances: 4, stall_ms: 60_000 }), async (nginx) => {
      await until("all are blocked", async () => {
        await nginx.json("/hang");
        return childrenOf(nginx.workerPid()).length === 4;
      });
      await assertEndsSoon(nginx, "SIGTERM");
      await release(nginx);
    }));
});
