/**
 * Short handlers under a load that never ends: the loop of their environment goes on turning, so
 * timers, promises and sockets of all others do.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { wrk } from "../../support/clients.js";
import { withNginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { ok, phase, plugin } from "../../support/plugin-phases.js";

const TICK_MS = 10;
/** Of handlers that keep the thread for 0.1 ms each: 50 ms. */
const MOST = 500;

const FILES = {
  // How many handlers run between two ticks of somebody's timer, at most. Work is counted rather
  // than time: a busy machine changes nothing of it.
  "modules/pace.ts": `
    let done = 0, last = 0, most = 0, ticks = 0;
    setInterval(() => { most = Math.max(most, done - last); last = done; ticks++; }, ${String(TICK_MS)});
    const work = () => {
      for (const end = performance.now() + 0.1; performance.now() < end;);
      done++;
    };
    Object.assign(globalThis, { work });
    export const now = () => { work(); return 1; };
    export const later = async () => { await null; await null; work(); return 1; };
    export const told = () => { work(); };
    export const pace = () => { const all = { done, most, ticks }; most = 0; return all; };`,
  "plugins/hard.ts": plugin(
    `name: "hard", access: () => globalThis.work(), log: () => globalThis.work()`,
  ),
  "plugins/late.ts": plugin(
    `name: "late", async log() { await null; await null; globalThis.work(); }`,
  ),
  "plugins/asks.ts": plugin(
    `name: "asks", async log(ctx) { await ctx.shared("kept").get("x"); globalThis.work(); }`,
  ),
};

const LOADS = {
  "synchronous handlers": content(`ngx.print(ts.import("pace.ts").now())`),
  "handlers that go on in promises": content(`ngx.print(ts.import("pace.ts").later())`),
  notifications: content(
    `for _ = 1, 8 do ts.notify(ts.import("pace.ts").told) end ngx.print("ok")`,
  ),
  plugins: `${phase("access", `http.access("hard")`)} ${ok}`,
  "log entries": `${phase("log", `http.log("hard")`)} ${ok}`,
  "log entries that go on in promises": `${phase("log", `http.log("late")`)} ${ok}`,
  "replies to questions": `${phase("log", `http.log("asks")`)} ${ok}`,
};

const pathOf = (name: string): string => `/${name.replaceAll(" ", "-")}`;

function options(runtime: "embedded" | "process"): NginxOptions {
  return {
    ts: { runtime, plugins: "plugins", timeout_ms: 30_000 },
    files: FILES,
    locations: {
      "= /pace": content(`t.reply(ts.import("pace.ts").pace())`),
      ...Object.fromEntries(
        Object.entries(LOADS).map(([name, body]) => [`= ${pathOf(name)}`, body]),
      ),
    },
    allowLog: [
      /entries for the plugins' log handlers were dropped/,
      /the plugins were not ended: timeout/,
    ],
  };
}

interface Pace {
  done: number;
  most: number;
  ticks: number;
}

for (const runtime of ["embedded", "process"] as const) {
  describe(`a timer of ${String(TICK_MS)} ms comes within 50 ms, ${runtime}, under a load of`, () => {
    for (const name of Object.keys(LOADS)) {
      test(name, () =>
        withNginx(options(runtime), async (nginx) => {
          await untilState(nginx, "ready");
          const pace = async (): Promise<Pace> => {
            const { value } = await nginx.json<Answer<Pace>>("/pace");
            assert.ok(value);
            return value;
          };
          // Load the module and then the plugin.
          await pace();
          await nginx.ask(pathOf(name));
          await nginx.ask(pathOf(name));
          const before = await pace();
          await wrk(nginx.url + pathOf(name), { connections: 1024, seconds: 2 });
          const { done, most, ticks } = await pace();
          assert.ok(done - before.done > 1000, `${String(done)} handlers ran`);
          assert.ok(most <= MOST, `${String(most)} handlers between two of ${String(ticks)} ticks`);
          assert.equal((await statsOf(nginx)).lives, 1);
        }),
      );
    }
  });
}
