/** What clients get, and what the error log says, when plugins or the runtime fail or are misused. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { withNginx } from "../../support/nginx.js";
import { ANY_CONF, ok, phase, plugin, route } from "../../support/plugin-phases.js";
import { pluginOptions, withPlugins } from "../../support/plugins.js";

interface Problem {
  type: string;
  title: string;
  status: number;
  request_id: string;
}

describe("failures", () => {
  const failing = {
    thrower: plugin(`name: "thrower", access() { throw new Error("a secret text"); }`),
    sleeper: plugin(
      `name: "sleeper", access: () => new Promise(() => {}), phases: { access: { timeoutMs: 20 } }`,
    ),
    late: plugin(`
      name: "late", ${ANY_CONF}
      policies: { onError: "closed" },
      headerFilter(ctx, { conf }) { if (conf.at === "header") throw new Error("too late"); },
      bodyFilter(ctx, { conf }) { if (conf.at === "body") throw new Error("too late"); }`),
  };
  const allowLog = [/resty\.ts: /, /failed to run body_filter_by_lua/, /lua entry thread aborted/];

  test("what went wrong is in the log under the request's id, and not in the answer", () =>
    withPlugins(
      failing,
      { allowLog, locations: { "= /x": phase("access", `http.access("thrower")`) + ok } },
      async (nginx) => {
        const reply = await nginx.ask("/x");
        assert.equal(reply.status, 500);
        assert.equal(reply.headers["content-type"], "application/problem+json");
        const { request_id: id, ...problem } = reply.json<Problem>();
        assert.deepEqual(problem, {
          type: "about:blank",
          title: "Internal Server Error",
          status: 500,
        });
        assert.match(id, /^[0-9a-f]{32}$/);
        assert.match(
          nginx.errorLog(),
          new RegExp(`thrower, access, request ${id}: Error: a secret text`),
        );
      },
    ));

  const cases: [title: string, code: string, status: number][] = [
    ["closed answers 500", `{ "thrower" }`, 500],
    ["open goes on", `{ "thrower", on_error = "open" }`, 200],
    ["a status answers with that one", `{ "thrower", on_error = 418 }`, 418],
    ["a deadline that passes is 504", `{ "sleeper" }`, 504],
    ["open after a deadline goes on", `{ "sleeper", on_timeout = "open" }`, 200],
    [
      "a plugin that is not there is 500, whatever its policy",
      `{ "gone", on_error = "open" }`,
      500,
    ],
    ["a configuration that is wrong is 500", `{ "thrower", { what = 1 } }`, 500],
  ];
  for (const [title, member, status] of cases) {
    test(`before the upstream ${title}`, () =>
      withPlugins(
        failing,
        {
          allowLog,
          initWorker: `chain = require("resty.ts.http").chain { ${member} }`,
          locations: { "= /x": phase("access", "chain:access()") + ok },
        },
        async (nginx) => {
          assert.equal((await nginx.ask("/x")).status, status);
        },
      ));
  }

  for (const at of ["header", "body"]) {
    test(`a ${at} filter that fails closed cuts the connection`, () =>
      withPlugins(
        failing,
        {
          allowLog,
          initWorker: `require("resty.ts.http").route("late", { { "late", { at = "${at}" } } })`,
          locations: { "= /x": route("late") + ok },
        },
        async (nginx) => {
          await assert.rejects(nginx.ask("/x"));
          assert.match(nginx.errorLog(), /late, \w+_filter, request [0-9a-f]{32}: Error: too late/);
        },
      ));
  }

  test("without a runtime the policy for overload decides", () =>
    withNginx(
      {
        ...pluginOptions(failing),
        initWorker: `
          local http = require "resty.ts.http"
          closed, open = http.chain { "thrower" }, http.chain { { "thrower", on_overload = "open" } }
          -- As APISIX's hooks are.
          hook = http.chain { { "thrower", on_overload = "open" } }
          hook.strict = true`,
        locations: {
          "= /closed": phase("access", "closed:access()") + ok,
          "= /open": phase("access", "open:access()") + ok,
          "= /inline": phase("access", `http.access("thrower", { a = 1 })`) + ok,
          "= /body": phase("body_filter", "hook:body_filter()") + ok,
          "= /late": `${phase("header_filter", "closed:header_filter()")}
                      ${phase("log", "closed:log()")} ${ok}`,
        },
        allowLog,
      },
      async (nginx) => {
        assert.equal((await nginx.ask("/closed")).status, 503);
        assert.equal((await nginx.ask("/inline")).status, 503);
        assert.equal((await nginx.ask("/open")).status, 200);
        // What its plugins say of filters is not known.
        await assert.rejects(nginx.ask("/late"), /other side closed/);
        assert.equal((await nginx.ask("/body")).text, "ok");
      },
    ));
});

test("the method cannot be changed from or to HEAD, which would break the connection's framing", () =>
  withPlugins(
    {
      method: plugin(`
        name: "method",
        access(ctx) { ctx.request.method = ctx.request.query.get("method"); }`),
    },
    {
      locations: { "= /x": phase("access", `http.access("method")`) + ok },
      allowLog: [/the method cannot be changed from or to HEAD/],
    },
    async (nginx) => {
      assert.equal((await nginx.ask("/x?method=GET", { method: "HEAD" })).status, 500);
      assert.equal((await nginx.ask("/x?method=HEAD")).status, 500);
      assert.equal((await nginx.ask("/x?method=HEAD", { method: "HEAD" })).status, 200);
      assert.equal((await nginx.ask("/x?method=PUT")).status, 200);
    },
  ));

describe("misuse is an error with its reason", () => {
  const cases: [code: string, text: RegExp][] = [
    [`http.access("x", "y")`, /the configuration of x is a table, not a string/],
    [`http.access("x", { f = print })`, /the configuration of x: a function \(argument 2\.f\)/],
    [`http.access(1)`, /a plugin's name or what http\.chain returns is wanted, not 1/],
    [`http.log("x")`, /the log handlers of plugins cannot be run in access_by_lua/],
    [`http.route("r", {})`, /a chain is a list of one plugin or more/],
    [`http.route("r", { { "x", on_eror = 1 } })`, /a plugin in a chain has no option on_eror/],
    [
      `http.route("r", { { "x", on_error = 200 } })`,
      /on_error of x is "closed", "open" or a status/,
    ],
    [`http.route("r", { { "x", timeout_ms = 0 } })`, /timeout_ms of x is a whole number/],
  ];
  test("in words", () =>
    withPlugins(
      {},
      {
        locations: Object.fromEntries(
          cases.map(([code], i) => [
            `= /${String(i)}`,
            phase("access", `local _, err = pcall(function() ${code} end) ngx.print(err)`),
          ]),
        ),
      },
      async (nginx) => {
        for (const [i, [code, text]] of cases.entries()) {
          assert.match((await nginx.ask(`/${String(i)}`)).text, text, code);
        }
      },
    ));
});
