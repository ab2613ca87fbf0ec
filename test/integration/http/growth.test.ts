/** What Lua keeps is bounded, whatever names, keys and configurations requests make up. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { withNginx } from "../../support/nginx.js";
import { plainContent } from "../../support/nginx-config.js";
import { ok, phase, plugin } from "../../support/plugin-phases.js";
import { keptOf, withPlugins } from "../../support/plugins.js";

const PLUGINS = {
  tagged: plugin(`name: "tagged", schema: { type: "object" },
    access(ctx, { conf }) { ctx.response.headers.append("x-tag", String(conf.n)); },`),
  slow: plugin(`name: "slow", schema: { type: "object" },
    setup: () => new Promise((resolve) => setTimeout(resolve, 50)), content: (ctx) => ctx.exit(204),`),
};

/** Answers by how many KiB Lua's heap has grown in so many rounds of the code, after as many before. */
const growth = (rounds: number, code: string, isAsked: boolean): string =>
  plainContent(`
    local ts, http = require "resty.ts", require "resty.ts.http"
    local function kept(from)
        local calls = ts.stats().calls
        for i = from, from + ${String(rounds)} do ${code} end
        repeat
            ngx.sleep(0.01)
            local stats = ts.stats()
        until stats.pending == 0 and (stats.calls > calls or ${String(!isAsked)})
        -- What a timer began may be under way without a call that is pending.
        local last, count = 1e9, 0
        repeat
            last = count
            ngx.sleep(0.05)
            for _ = 1, 4 do collectgarbage() end
            count = collectgarbage("count")
        until math.abs(count - last) < 16
        return count
    end
    local before = kept(0)
    ngx.print(kept(${String(rounds + 1)}) - before)`);

describe("a chain", () => {
  const make = `
    local made, err = pcall(http.chain, { { "tagged", { n = 1 } } })
    ngx.log(ngx.WARN, "in ", ngx.get_phase(), ": ", made and "made" or err)`;
  const REQUEST_PHASES = ["rewrite", "access", "header_filter", "body_filter", "log"];

  test("is not made in a request, and the error says where to make it", () =>
    withPlugins(
      PLUGINS,
      {
        http: `upstream chosen { server 0.0.0.1; balancer_by_lua_block {
          local http = require("resty.ts.http") ${make}
          require("ngx.balancer").set_current_peer("127.0.0.1", 9)
        } }`,
        locations: {
          "= /x": REQUEST_PHASES.map((name) => phase(name, make)).join(" ") + ok,
          "= /content": phase("content", `${make} ngx.print("ok")`),
          "= /balancer": "proxy_pass http://chosen;",
        },
        allowLog: [/in \w+: /, /connect\(\) failed/],
      },
      async (nginx) => {
        for (const path of ["/x", "/content", "/balancer"]) await nginx.ask(path);
        for (const name of [...REQUEST_PHASES, "content", "balancer"]) {
          await nginx.waitForLog(
            new RegExp(`in ${name}: .*http\\.chain in ${name}_by_lua\\* .*init_worker_by_lua\\*`),
          );
        }
        assert.equal((await keptOf(nginx)).chains, 0);
      },
    ));

  test("is made where there is no request, and named anywhere: a name's chain takes the place of another", () =>
    withPlugins(
      PLUGINS,
      {
        initWorker: `
          local http = require("resty.ts.http")
          chains = { early = http.chain { { "tagged", { n = 1 } } } }
          ngx.timer.at(0, function() chains.late = http.chain { { "tagged", { n = 2 } } } end)`,
        locations: {
          "= /x": phase("access", "chains.early:access() chains.late:access()") + ok,
          "= /route": phase(
            "access",
            `for i = 1, 200 do http.route("r", { { "tagged", { n = i } } }) end`,
          ).concat(ok),
          "= /routed": `set $resty_ts_route r; ${phase("access", "http.run()")} ${ok}`,
        },
        server: `set $resty_ts_route "";`,
      },
      async (nginx) => {
        assert.deepEqual((await nginx.ask("/x")).headers["x-tag"], ["1", "2"]);
        await nginx.ask("/route");
        assert.equal((await nginx.ask("/routed")).headers["x-tag"], "200");
      },
    ));
});

describe("Lua keeps nothing of", () => {
  const cases: [what: string, rounds: number, code: string, isAsked?: boolean][] = [
    ["the names of plugins", 3000, `ngx.ctx = {} pcall(http.log, "name" .. i)`],
    ["the names of modules", 10_100, `pcall(ts.import, "m" .. i .. ".ts")`],
    ["the names of functions", 10_100, `pcall(function() return ts.import("m.ts")["f" .. i] end)`],
    ["the keys of modules", 6000, `assert(ts.import("m.ts", { key = "key" .. i }).f())`],
    [
      "configurations whose requests have gone before they were set up",
      3000,
      `ngx.thread.kill(ngx.thread.spawn(function() http.content("slow", { n = i }) end))`,
      true, // by a timer, for requests to come
    ],
  ];
  for (const [what, rounds, code, isAsked = false] of cases) {
    test(what, () =>
      withNginx(
        {
          ts: { plugins: "plugins", instances: 2, max_pending: 65_535 },
          modules: { "m.ts": "export const f = () => true;" },
          files: Object.fromEntries(
            Object.entries(PLUGINS).map(([name, source]) => [`plugins/${name}.ts`, source]),
          ),
          locations: { "= /x": growth(rounds, code, isAsked) },
          allowLog: [/resty\.ts: /],
        },
        async (nginx) => {
          const kib = Number((await nginx.ask("/x")).text);
          assert.ok(kib < 250, `${String(kib)} KiB more after ${String(rounds)} more`);
        },
      ),
    );
  }
});
