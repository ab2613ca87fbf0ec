/** Requests that come before a chain is configured: the host is asked once, and all wait for it. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { until } from "../../support/deadline.js";
import { type Nginx, type NginxOptions, withNginx } from "../../support/nginx.js";
import { plainContent } from "../../support/nginx-config.js";
import { ok, phase, plugin } from "../../support/plugin-phases.js";
import { withPlugins } from "../../support/plugins.js";
import { withUpstream } from "../../support/upstream.js";

const REQUESTS = 30;
/** Less than start_timeout_ms, which a setup may take; more than plugins may take to be ended. */
const EXIT_MS = 5000;

interface Setups {
  nginx: Nginx;
  /** Of those under way, in the order in which they began. */
  held: ServerResponse[];
  calls: () => Promise<number>;
  /** Until so many requests are there, and as many setups have begun as there should. */
  under: (requests: number, setups: number) => Promise<unknown>;
}

/** A plugin whose setup waits until the test says how it goes, with a status. */
const gatedBy = (port: number): string =>
  plugin(`
    name: "gated",
    async setup() {
      const { status } = await fetch("http://127.0.0.1:${String(port)}/");
      if (status !== 200) throw new Error("no setup: " + status);
    },
    access({ response }) { response.headers.set("x-gated", "1"); },
  `);

const options: NginxOptions = {
  locations: {
    "= /x": "lua_check_client_abort on;" + phase("access", `http.access("gated")`) + ok,
    "= /make": plainContent(`
      assert(ngx.timer.at(0, function()
          package.loaded.short = require("resty.ts.http").chain { { "gated", timeout_ms = 200 } }
      end))`),
    "= /short": phase("access", `package.loaded.short:access()`) + ok,
    "= /active": plainContent("ngx.print(ngx.var.connections_active)"),
  },
  allowLog: [/no setup: 503/, /not set up within/, /the plugins were not ended/],
};

function withSetups(body: (setups: Setups) => Promise<void>): Promise<void> {
  return withUpstream((server, port) => {
    const held: ServerResponse[] = [];
    server.on("request", (_, response) => held.push(response));
    return withPlugins({ gated: gatedBy(port) }, options, async (nginx) => {
      await nginx.ask("/_kept"); // Node has started
      const calls = async (): Promise<number> =>
        (await nginx.json<{ calls: number }>("/_stats")).calls;
      const before = await calls();
      await body({
        nginx,
        held,
        calls: async () => (await calls()) - before,
        under: (requests, setups) =>
          until(
            `${String(requests)} requests and ${String(setups)} setups are under way`,
            async () => {
              const active = await nginx.json<number>("/active");
              return active === requests + 1 && held.length === setups;
            },
          ),
      });
    });
  });
}

test("one asks, and all go on with its answer", () =>
  withSetups(async ({ nginx, held, calls, under }) => {
    const replies = Promise.all(Array.from({ length: REQUESTS }, () => nginx.ask("/x")));
    await under(REQUESTS, 1);
    assert.equal(await calls(), 1);
    held[0]!.end();
    for (const { status, headers } of await replies) {
      assert.deepEqual([status, headers["x-gated"]], [200, "1"]);
    }
    assert.equal(await calls(), 1 + REQUESTS);
  }));

test("a failure is that of all who waited, and of nobody who comes later", () =>
  withSetups(async ({ nginx, held, calls, under }) => {
    const replies = Promise.all(Array.from({ length: REQUESTS }, () => nginx.ask("/x")));
    await under(REQUESTS, 1);
    held[0]!.writeHead(503).end();
    assert.deepEqual([...new Set((await replies).map(({ status }) => status))], [500]);
    assert.equal(await calls(), 1);

    const later = nginx.ask("/x");
    await under(1, 2);
    held[1]!.end();
    assert.equal((await later).status, 200);
  }));

test("it goes on when the one that began it goes away, and the others get its answer", () =>
  withSetups(async ({ nginx, held, calls, under }) => {
    const leaves = new AbortController();
    const first = nginx.ask("/x", { signal: leaves.signal }).catch(() => "gone");
    await under(1, 1);
    const others = Promise.all(Array.from({ length: 5 }, () => nginx.ask("/x")));
    await under(6, 1);
    leaves.abort();
    assert.equal(await first, "gone");
    await under(5, 1);
    assert.equal(await calls(), 1);
    held[0]!.end();
    assert.deepEqual([...new Set((await others).map(({ status }) => status))], [200]);
  }));

test("each waits until its own deadline only, and what it waited for goes on", () =>
  withSetups(async ({ nginx, held, under }) => {
    await nginx.ask("/make");
    await under(0, 1);
    assert.equal((await nginx.ask("/short")).status, 504);
    held[0]!.end();
    await until("it is set up", async () => (await nginx.ask("/short")).status === 200);
    assert.equal(held.length, 1);
  }));

test("a worker that exits does not wait for what nobody waits for", () =>
  withSetups(async ({ nginx, under }) => {
    await nginx.ask("/make");
    await under(0, 1);
    const since = Date.now();
    const { at } = await nginx.quit();
    assert.ok(at - since < EXIT_MS, `${String(at - since)} ms`);
  }));

test("routes that are more than calls may be pending are all set up ahead of requests", () =>
  withNginx(
    {
      ts: { plugins: "plugins", max_pending: 100 },
      files: {
        "plugins/routed.ts": plugin(`name: "routed", schema: { type: "object" },
          access({ response }, { conf }) { response.headers.set("x-route", String(conf.n)); }`),
      },
      initWorker: `for i = 1, 1000 do
          require("resty.ts.http").route("r" .. i, { { "routed", { n = i } } })
      end`,
      locations: { "= /x": `set $resty_ts_route $arg_r; ${phase("access", "http.run()")} ${ok}` },
    },
    async (nginx) => {
      const stats = () => nginx.json<Record<string, number>>("/_stats");
      await until("each route was set up", async () => (await stats()).completed === 1000);
      for (const n of ["1", "500", "1000"]) {
        assert.equal((await nginx.ask(`/x?r=r${n}`)).headers["x-route"], n);
      }
      const { calls, refused } = await stats();
      assert.deepEqual({ calls, refused }, { calls: 1003, refused: 0 });
    },
  ));
