/**
 * What a call runs through in Lua is compiled: LuaJIT gives up no function of it. It gives one up for
 * good after some ten attempts, and then interprets it and whoever leads up to it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { wrk } from "../../support/clients.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

const PLUGIN = `
  import { definePlugin } from "resty-ts";
  export default definePlugin({
    name: "fields",
    async access({ request, response }) {
      request.headers.set("x-user", request.headers.get("x-request") ?? "nobody");
      response.headers.set("x-answer", "1");
      response.headers.set("x-other", "2");
    },
  });`;

// LuaJIT tells of each attempt at a trace: where it starts, and when it is aborted. One that starts
// at the exit of another trace is left out: there are four attempts at that at most.
const WATCH = `
  local util = require "jit.util"
  local place
  aborts, attempts = {}, 0
  jit.attach(function(what, _, fn, pc, parent)
    if what == "start" then
      local info = util.funcinfo(fn, pc)
      local file = not parent and info.source and info.source:match("/(resty/ts.*)")
      place = file and file .. ":" .. info.currentline
      attempts = attempts + (place and 1 or 0)
    elseif what == "abort" and place then
      aborts[place] = (aborts[place] or 0) + 1
    end
  end, "trace")`;

interface Traces {
  attempts: number;
  aborts: Record<string, number>;
}

const MOST = 6;

test("no function that calls and plugins run through is given up by LuaJIT", () =>
  withNginx(
    {
      beforeStart: WATCH,
      initWorker: `add = ts.import("calc.ts").add`,
      ts: { plugins: "plugins" },
      files: { "plugins/fields.ts": PLUGIN },
      locations: {
        "/add": content(`ngx.print(add(1, 2))`),
        "/plugin": `access_by_lua_block { require("resty.ts.http").access("fields") }
          ${content(`ngx.print(ngx.var.http_x_user)`)}`,
        "/traces": content(`t.json({ attempts = attempts, aborts = aborts })`),
      },
    },
    async (nginx) => {
      assert.equal((await nginx.ask("/add")).text, "3"); // Node has started
      for (const path of ["/add", "/plugin", "/add"]) {
        const report = await wrk(nginx.url + path, {
          connections: 32,
          seconds: 2,
          headers: { "x-request": "a", cookie: "b=1", "accept-language": "en" },
        });
        assert.ok(report.requests > 1000 && report.non2xx === 0, JSON.stringify(report));
      }
      const { attempts, aborts } = await nginx.json<Traces>("/traces");
      assert.ok(attempts > 20, String(attempts));
      const tooMany = Object.entries(aborts).filter(([, count]) => count > MOST);
      assert.deepEqual(tooMany, []);
    },
  ));
