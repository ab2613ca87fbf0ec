/**
 * A handler that nobody waits for, and that does not come back: its environment is ended all the
 * same. Whoever was paused, the worker or the host, ends nobody by it.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { sleep, until } from "../../support/deadline.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { ok, phase, plugin } from "../../support/plugin-phases.js";

const STALL_MS = 300;
const TIMEOUT_MS = 500;
/** Longer than both. */
const PAUSE_MS = 3000;

const FILES = {
  "modules/loops.ts": `
    const loop = (): never => { for (;;); };
    export const now = loop;
    export const later = async () => { await null; loop(); };
    export const muchLater = () => { setTimeout(loop, 50); };
    export const slowly = (ms: number) => {
      for (const end = Date.now() + ms; Date.now() < end;);
      return ms;
    };
    export const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
    export const one = () => 1;`,
  "plugins/loops.ts": plugin(`name: "loops", log() { for (;;); }`),
  "plugins/later.ts": plugin(
    `name: "later", async log(ctx) { await ctx.shared("kept").get("x"); for (;;); }`,
  ),
};

const told = (name: string): string =>
  content(`ts.notify(ts.import("loops.ts").${name}) ngx.print("ok")`);

const LOOPS: Record<string, string> = {
  "a notification": told("now"),
  "a notification, in a promise": told("later"),
  "a notification, in a timer": told("muchLater"),
  "a log entry": `${phase("log", `http.log("loops")`)} ${ok}`,
  "a log entry, in a promise": `${phase("log", `http.log("later")`)} ${ok}`,
};

const pathOf = (name: string): string => `/${name.replaceAll(/\W+/g, "-")}`;

function options(runtime: "embedded" | "process"): NginxOptions {
  return {
    ts: { runtime, plugins: "plugins", stall_ms: STALL_MS, timeout_ms: TIMEOUT_MS },
    files: FILES,
    locations: {
      ...Object.fromEntries(
        Object.entries(LOOPS).map(([name, body]) => [`= ${pathOf(name)}`, body]),
      ),
      "= /one": content(`t.reply(ts.import("loops.ts").one())`),
      "= /slowly": content(
        `t.reply(ts.call(ts.import("loops.ts").slowly, { timeout_ms = 20000 }, 2000))`,
      ),
      "= /wait": content(
        `t.reply(ts.call(ts.import("loops.ts").wait, { timeout_ms = 200 }, 60000))`,
      ),
    },
    allowLog: [/the environment ended/, /the handler that stalled/, /entries for the plugins' log/],
  };
}

async function ready(nginx: Nginx): Promise<void> {
  await untilState(nginx, "ready");
  assert.deepEqual(await nginx.json("/one"), { value: 1 });
}

for (const runtime of ["embedded", "process"] as const) {
  describe(`without a caller, ${runtime}, an endless loop is noticed in`, () => {
    for (const name of Object.keys(LOOPS)) {
      test(name, () =>
        withNginx(options(runtime), async (nginx) => {
          await ready(nginx);
          await nginx.ask(pathOf(name));
          await until("another life", async () => (await statsOf(nginx)).lives === 2, 15_000);
          assert.equal((await statsOf(nginx)).stalled, 1);
          await ready(nginx);
        }),
      );
    }
  });

  describe(`nobody is ended, ${runtime}, by`, () => {
    test("a handler that computes for long within its deadline", () =>
      withNginx(options(runtime), async (nginx) => {
        await ready(nginx);
        assert.deepEqual(await nginx.json("/slowly"), { value: 2000 });
        assert.equal((await statsOf(nginx)).lives, 1);
      }));

    for (const who of runtime === "process" ? ["worker", "host", "both"] : ["worker"]) {
      test(`a pause of ${who === "both" ? who : `the ${who}`}`, () =>
        withNginx(options(runtime), async (nginx) => {
          await ready(nginx);
          const { process_id: host } = await statsOf(nginx);
          const pids = [...(who !== "host" ? [nginx.workerPid()] : [])];
          if (who !== "worker") pids.push(host ?? assert.fail("there is no host"));
          const waits = nginx.json<Answer>("/wait");
          for (const pid of pids) process.kill(pid, "SIGSTOP");
          await sleep(PAUSE_MS);
          for (const pid of pids) process.kill(pid, "SIGCONT");
          assert.match((await waits).code ?? "", /^timeout$/);
          // All that was to be noticed has been by then.
          await sleep(PAUSE_MS);
          await ready(nginx);
          assert.equal((await statsOf(nginx)).lives, 1);
        }));
    }
  });
}
