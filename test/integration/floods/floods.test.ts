/** Whatever a plugin or a host floods nginx with, its other locations are answered meanwhile. */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf, untilState } from "../../support/bridge.js";
import { curl } from "../../support/clients.js";
import { sleep } from "../../support/deadline.js";
import { longestWait, MANY_REQUESTS } from "../../support/longest-wait.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { PROJECT_ROOT } from "../../support/project.js";

/** More than the control's longest. */
const MORE_MS = 50;
const FLOOD_MS = 1500;
const LARGE = 60_000_000;
const MANY = 300_000;

const floods = `
  import { setImmediate as turn } from "node:timers/promises";
  async function until(ms, body) {
    const end = Date.now() + ms;
    for (let n = 0; Date.now() < end; await turn()) for (let i = 0; i < 1000; i++) body(n++);
    return true;
  }
  export const logs = (ms) => until(ms, (n) => console.log("line", n));
  export const lines = (ms) => until(ms, (n) => console.error("x".repeat(4000), n));
  export const idle = (ms) => new Promise((resolve) => setTimeout(resolve, ms, true));
  export const never = () => new Promise(() => undefined);
  export const add = (a, b) => a + b;
  export const bytes = () => new Uint8Array(${String(LARGE)});
  export const text = () => "x".repeat(${String(LARGE)});
  export const texts = () => Array.from({ length: ${String(MANY)} }, (_, i) => "a text of some length " + i);
  export const objects = () => Array.from({ length: ${String(MANY / 3)} }, (_, i) => ({ a: i }));
  export const length = (value) => value.length;
`;

const plugin = `
  import { definePlugin } from "resty-ts";
  const piece = new TextEncoder().encode("a piece of a stream\\n");
  export default definePlugin({
    name: "flood",
    content(ctx) {
      const end = Date.now() + ${String(FLOOD_MS)};
      if (ctx.request.path === "/stream") {
        return new Response(new ReadableStream({
          pull: (controller) => Date.now() < end ? controller.enqueue(piece) : controller.close(),
        }, { highWaterMark: 0 }));
      }
      return (async () => {
        const dict = ctx.shared("kept");
        while (Date.now() < end) {
          await Promise.all(Array.from({ length: 50_000 }, (_, i) => dict.set("k" + (i % 100), i)));
        }
        return ctx.exit(200, "asked");
      })();
    },
  });`;

/** Makes values and measures them as Lua's share of it must not be. */
const large = (call: string): string =>
  content(`
  local large = ts.import("floods.ts")
  for _ = 1, 3 do
      local value, err = ${call}
      if err then
          ngx.status = 500
      end
      ngx.sleep(0.01)
  end
  t.reply(true)`);

const SECONDS = String(FLOOD_MS / 1000);
const locations = {
  "/logs": content(`t.reply(ts.import("floods.ts").logs(${String(FLOOD_MS)}))`),
  "/lines": content(`t.reply(ts.import("floods.ts").lines(${String(FLOOD_MS)}))`),
  // One coroutine that makes one call after the other.
  "/calls": content(`
    local add = ts.import("floods.ts").add
    local stop = ngx.now() + ${SECONDS}
    while ngx.now() < stop do
        assert(add(1, 2))
    end
    t.reply(true)`),
  // 1,000 of them.
  "/answers": content(`
    local add = ts.import("floods.ts").add
    local stop = ngx.now() + ${SECONDS}
    local threads = {}
    for i = 1, 1000 do
        threads[i] = ngx.thread.spawn(function()
            while ngx.now() < stop do
                assert(add(1, 2))
            end
        end)
    end
    for i = 1, 1000 do
        ngx.thread.wait(threads[i])
    end
    t.reply(true)`),
  "/cancels": content(`
    local never = ts.import("floods.ts").never
    local stop = ngx.now() + ${SECONDS}
    local threads = {}
    for i = 1, 1000 do
        threads[i] = ngx.thread.spawn(function()
            while ngx.now() < stop do
                local _, _, code = ts.call(never, { timeout_ms = 1 })
                if code ~= "timeout" then
                    ngx.sleep(0.001)
                end
            end
        end)
    end
    for i = 1, 1000 do
        ngx.thread.wait(threads[i])
    end
    t.reply(true)`),
  // The worker blocks for each, and none is answered.
  "/blocks": content(`
    local never = ts.import("floods.ts").never
    local stop = ngx.now() + ${SECONDS}
    while ngx.now() < stop do
        for _ = 1, 50 do
            ts.call_sync(never, 10)
        end
        ngx.sleep(0.001)
    end
    t.reply(true)`),
  "/notices": content(`
    local add = ts.import("floods.ts").add
    local stop = ngx.now() + ${SECONDS}
    while ngx.now() < stop do
        for _ = 1, 100 do
            ts.notify(add, 1, 2)
        end
        ngx.sleep(0.001)
    end
    t.reply(true)`),
  "/large-bytes": large(`large.bytes()`),
  "/large-text": large(`large.text()`),
  "/many-texts": large(`large.texts()`),
  "/many-objects": large(`large.objects()`),
  "/large-bytes-in": large(`large.length(ts.bytes(LARGE_TEXT))`),
  "/large-text-in": large(`large.length(LARGE_TEXT)`),
  "/many-texts-in": large(`large.length(MANY_TEXTS)`),
  "/many-objects-in": large(`large.length(MANY_OBJECTS)`),
  "/stream": `content_by_lua_block { require("resty.ts.http").content("flood") }`,
  "/questions": `content_by_lua_block { require("resty.ts.http").content("flood") }`,
};

/** curl asks: what comes may be much, and to read it here would hold up the clock. */
async function whileAsked(nginx: Nginx, path: string): Promise<number> {
  const done = curl("-o", "/dev/null", "-w", "%{http_code}", nginx.url + path);
  const { longestMs } = await longestWait(nginx, done);
  assert.equal(await done, "200");
  return longestMs;
}

const options = (runtime: string): NginxOptions => ({
  ts: { runtime, plugins: "plugins", timeout_ms: 60_000, max_pending: 8192 },
  modules: { "floods.ts": floods },
  files: { "plugins/flood.ts": plugin },
  http: MANY_REQUESTS,
  locations: {
    ...locations,
    "/idle": content(`t.reply(ts.import("floods.ts").idle(${String(FLOOD_MS)}))`),
    // What Lua alone does with strings of that size.
    "/strings": content(`
      for i = 1, 3 do
          local text = ("z"):rep(${String(LARGE)} + i)
          ngx.sleep(0.01)
      end
      t.reply(true)`),
    // And with as many strings, made a few at a time: now and then its collector takes its time.
    "/texts": content(`
      for i = 1, 12 do
          local texts = {}
          for n = 1, ${String(MANY)} do
              texts[n] = "a text of some length " .. n
              if n % 2000 == 0 then
                  ngx.sleep(0.001)
              end
          end
      end
      t.reply(true)`),
    "/add": content(`t.reply(ts.import("floods.ts").add(1, 2))`),
  },
  initWorker: `
    LARGE_TEXT = ("y"):rep(${String(LARGE)})
    MANY_TEXTS, MANY_OBJECTS = {}, {}
    for i = 1, ${String(MANY)} do
        MANY_TEXTS[i] = "a text of some length " .. i
        MANY_OBJECTS[i] = i % 3 == 0 and { a = i } or i
    end`,
  allowLog: [/line \d|x{1000}|dropped/],
});

for (const runtime of ["embedded", "process"]) {
  test(`${runtime}: a plain location is answered during each kind of flood`, async (t) => {
    await withNginx(options(runtime), async (nginx) => {
      assert.equal((await nginx.json<{ value: number }>("/add")).value, 3);
      const idle = await whileAsked(nginx, "/idle");
      const strings = await whileAsked(nginx, "/strings");
      const alone = Math.max(idle, strings, await whileAsked(nginx, "/texts"));
      for (const path of Object.keys(locations)) {
        await t.test(path, async () => {
          const control = /large|many/.test(path) ? alone : idle;
          const longest = await whileAsked(nginx, path);
          t.diagnostic(`${path}: ${longest.toFixed(1)} ms, without ${control.toFixed(1)} ms`);
          assert.ok(longest < control + MORE_MS, `${String(longest)} of ${String(control)} ms`);
          assert.ok(nginx.errorLog().length < 2_000_000, "the error log is bounded");
        });
      }
    });
  });
}

test("a coroutine that is answered at once gives nginx its turn after 64 answers", () =>
  withNginx(
    {
      ts: {},
      locations: {
        "/looks": content(`
          local waiting, n = ts.internal.client().waiting, 0
          while n < 1000 and waiting:may_look() do
              n = n + 1
          end
          t.json(n)`),
      },
    },
    async (nginx) => {
      await untilState(nginx, "ready");
      assert.ok((await nginx.json<number>("/looks")) <= 64);
    },
  ));

/** A program that loads flooding-host.lua. */
function floodingHost(kind: string): { path: string; remove: () => void } {
  const folder = mkdtempSync(join(tmpdir(), "rts-flood-"));
  const path = join(folder, "host");
  const file = join(PROJECT_ROOT, "test/integration/floods/flooding-host.lua");
  writeFileSync(path, `#!/usr/bin/env luajit\nRTS_FLOOD = "${kind}"\ndofile("${file}")\n`, {
    mode: 0o755,
  });
  return { path, remove: () => rmSync(folder, { recursive: true }) };
}

describe("a plain location is answered while a host floods nginx with", () => {
  for (const kind of [
    "logs",
    "asks",
    "large_asks",
    "reloads",
    "logged",
    "bells",
    "trickle",
    "malformed",
    "cursor",
  ]) {
    test(kind, async (t) => {
      const host = floodingHost(kind);
      try {
        await withNginx(
          {
            ts: { runtime: "process", node: host.path, start_timeout_ms: 60_000 },
            http: MANY_REQUESTS,
            allowLog: [/resty\.ts/],
          },
          async (nginx) => {
            if (kind === "malformed") await nginx.waitForLog(/crash loop/);
            else await untilState(nginx, "ready");
            const { longestMs } = await longestWait(nginx, sleep(FLOOD_MS));
            t.diagnostic(`${longestMs.toFixed(1)} ms`);
            assert.ok(longestMs < MORE_MS * 2, String(longestMs));
            const log = nginx.errorLog();
            assert.ok(log.length < 2_000_000, "the error log is bounded");
            // A record that cannot be stays unread: it is said once of each environment.
            const faults = log.match(/the environment ended: protocol error/g) ?? [];
            const starts = log.match(/the environment ended|the next start is in/g) ?? [];
            const { lives } = await statsOf(nginx);
            assert.ok(faults.length <= lives && starts.length <= 2 * lives, log.slice(-4000));
            // An exiting worker waits for no reload.
            const end = await (kind === "reloads" ? nginx.quit(5000) : nginx.term());
            assert.equal(end.code, 0);
          },
        );
      } finally {
        host.remove();
      }
    });
  }
});
