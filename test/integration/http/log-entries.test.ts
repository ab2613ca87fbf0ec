/** Entries for log handlers: each has its handler run to its end, or is counted and in the error log. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf, untilState } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { Nginx, type NginxOptions, withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { ok, phase, plugin } from "../../support/plugin-phases.js";
import { rawAsk } from "../../support/raw.js";

type Runtime = "embedded" | "process";

/** Its log handler is at work for a while for some entries, and notes each that has come to its end. */
const PLUGINS = {
  "plugins/audit.ts": `
    import { appendFileSync, existsSync } from "node:fs";
    import { setTimeout as delay } from "node:timers/promises";
    ${plugin(`name: "audit", schema: { type: "object", properties: { folder: {} } },
      async setup({ folder }) {
        if (existsSync(folder + "/refuse")) throw new Error("no setup");
        if (existsSync(folder + "/slow")) await delay(300);
        while (existsSync(folder + "/wait")) await delay(5);
      },
      // Not async: the end of such a function is known a turn after it only.
      log(ctx, { conf }) {
        const id = Number(ctx.request.query.get("id"));
        const note = () => appendFileSync(conf.folder + "/done", id + "\\n");
        return id % 3 === 0 ? delay(id % 7).then(note) : note();
      },`)}`,
};

const MODULES = {
  "end.ts": `
    export const exit = () => process.exit(3);
    export const fill = () => { const all = []; for (;;) all.push(new Array(100_000).fill(1.5)); };
    export const pid = () => process.pid;`,
};

const run = `require("resty.ts.http").log("audit", { folder = ngx.config.prefix() })`;
const access = run.replace(".log(", ".access(");

function options(runtime: Runtime): NginxOptions {
  return {
    ts: { runtime, plugins: "plugins", max_heap_mb: 100 },
    modules: MODULES,
    files: PLUGINS,
    locations: {
      "= /x": `${phase("log", run)} ${ok}`,
      "= /exit": content(`t.reply(ts.import("end.ts").exit())`),
      "= /fill": content(`t.reply(ts.import("end.ts", { timeout_ms = 20000 }).fill())`),
    },
    allowLog: [
      /the environment ended/,
      /entries for the plugins' log handlers were dropped/,
      /crash loop|no setup|audit, log|log, of \d+ entries|audit setup|exited/,
    ],
  };
}

/** Numbers from 0 to below `most`, the same for the same seed. */
function randomOf(seed: number): (most: number) => number {
  let state = seed;
  return (most) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return Math.floor((state / 0x1_0000_0000) * most);
  };
}

class Entries {
  sent = 0;
  readonly #nginx: Nginx;

  constructor(nginx: Nginx) {
    this.#nginx = nginx;
  }

  async send(count: number): Promise<void> {
    const first = this.sent;
    this.sent += count;
    await Promise.all(
      Array.from({ length: count }, (_, i) => this.#nginx.ask(`/x?id=${String(first + i)}`)),
    );
  }

  get done(): string[] {
    const file = join(this.#nginx.prefix, "done");
    return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
  }

  async dropped(): Promise<number> {
    return (await statsOf(this.#nginx)).dropped_log_entries;
  }

  /** What the error log has of them. */
  get told(): number {
    const lines = this.#nginx
      .errorLog()
      .matchAll(/(\d+) entries for the plugins' log handlers were/g);
    const late = this.#nginx.errorLog().matchAll(/log, of (\d+) entries, failed/g);
    return [...lines, ...late].reduce((sum, [, count]) => sum + Number(count), 0);
  }

  /** @param most entries of which the end itself cannot tell whether they have been done. */
  async check(most = 0): Promise<void> {
    let last = "";
    await until(
      "each entry is done or counted",
      async () => {
        const [done, dropped] = [this.done.length, await this.dropped()];
        last = `${String(done)} done and ${String(dropped)} dropped of ${String(this.sent)}`;
        return done + dropped >= this.sent;
      },
      15_000,
      () => last,
    );
    const { done } = this;
    assert.equal(new Set(done).size, done.length, "none is done twice");
    const more = done.length + (await this.dropped()) - this.sent;
    assert.ok(more <= most, last);
    const dropped = await this.dropped();
    await until(
      "the log has the count",
      () => this.told === dropped,
      5000,
      () => {
        return `${String(this.told)} of ${String(dropped)}`;
      },
    );
  }
}

const ends: [how: string, end: (nginx: Nginx, runtime: Runtime) => Promise<unknown>][] = [
  ["exits", (nginx) => nginx.ask("/exit")],
  ["has a full heap", (nginx) => nginx.ask("/fill")],
];
const killed = async (nginx: Nginx): Promise<void> => {
  await untilState(nginx, "ready");
  process.kill((await statsOf(nginx)).process_id!, "SIGKILL");
};

for (const runtime of ["embedded", "process"] as const) {
  describe(`log entries, ${runtime}`, () => {
    const ways = runtime === "process" ? [...ends, ["is killed", killed] as const] : ends;
    for (const [how, end] of ways) {
      const rounds = how === "has a full heap" ? 2 : 8;
      test(`are done or counted when the environment ${how}`, () =>
        withNginx(options(runtime), async (nginx) => {
          const entries = new Entries(nginx);
          const random = randomOf(how.length * 31 + runtime.length);
          writeFileSync(join(nginx.prefix, "slow"), "");
          for (let round = 1; round <= rounds; round++) {
            await entries.send(1 + random(150));
            const sending = entries.send(random(60));
            await end(nginx, runtime);
            await sending;
            await entries.send(random(30));
            await entries.check(how === "is killed" ? round : 0);
          }
          assert.ok((await statsOf(nginx)).lives > rounds / 2);
        }));
    }

    test("of a configuration that the next environment refuses are counted", () =>
      withNginx(options(runtime), async (nginx) => {
        const entries = new Entries(nginx);
        await entries.send(5);
        await entries.check();
        assert.equal(await entries.dropped(), 0);
        const sending = entries.send(70);
        writeFileSync(join(nginx.prefix, "refuse"), "");
        await nginx.ask("/exit");
        await sending;
        await entries.send(10);
        await entries.check();
        assert.ok((await entries.dropped()) >= 10);
      }));

    test("do not have nginx wait for the next environment to know their configuration", () =>
      withNginx(options(runtime), async (nginx) => {
        const entries = new Entries(nginx);
        await entries.send(5);
        await entries.check();
        const wait = join(nginx.prefix, "wait");
        writeFileSync(wait, "");
        await nginx.ask("/exit");
        await entries.send(20);
        // Its phases are not all over when a request is answered.
        await nginx.ask("/_up");
        rmSync(wait);
        await entries.check();
        assert.equal(await entries.dropped(), 0);
      }));

    test("wait in nginx, and are dropped and counted, when very many handlers are at work", () =>
      withNginx(
        {
          ...options(runtime),
          server: "keepalive_requests 1000000;",
          files: {
            "plugins/audit.ts": plugin(`name: "audit", schema: { type: "object" },
              setup: () => ({ all: [], begun: 0, over: false }),
              log(ctx, { state }) {
                state.begun++;
                return state.over ? undefined : new Promise((resolve) => state.all.push(resolve));
              },
              access(ctx, { state }) {
                if (ctx.request.path === "/end") {
                  state.over = true;
                  for (const resolve of state.all.splice(0)) resolve();
                }
                return ctx.exit(200, String(state.begun));
              },`),
          },
          locations: {
            "= /x": `${phase("log", run)} ${ok}`,
            "= /begun": phase("access", access),
            "= /end": phase("access", access),
          },
        },
        async (nginx) => {
          const most = 16_384;
          const count = most + 8192;
          const request = "GET /x HTTP/1.1\r\nHost: x\r\n";
          await rawAsk(
            nginx.port!,
            `${request}\r\n`.repeat(count - 1) + `${request}Connection: close\r\n\r\n`,
          );
          const begun = async (): Promise<number> => Number((await nginx.ask("/begun")).body);
          // They begin in batches.
          await until("all that may are at work", async () => (await begun()) > most - 64);
          assert.ok((await begun()) <= most);
          const { dropped_log_entries: dropped } = await statsOf(nginx);
          assert.ok(dropped > 0 && dropped <= count - most);
          await nginx.ask("/end");
          await until("the others have been, too", async () => (await begun()) === count - dropped);
        },
      ));

    test("whose handlers are at work when the worker exits are in the error log", async () => {
      const nginx = await Nginx.start({
        ...options(runtime),
        files: {
          "plugins/audit.ts": plugin(`name: "audit", schema: { type: "object" },
            log: () => new Promise(() => undefined),`),
        },
        allowLog: [/3 entries for .* were dropped: the worker exits/, /plugins were not ended/],
      });
      await new Entries(nginx).send(3);
      await nginx.quit();
      const log = nginx.errorLog();
      await nginx.stop();
      assert.match(log, /3 entries for the plugins' log handlers were dropped: the worker exits/);
    });
  });
}
