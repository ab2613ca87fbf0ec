/** Which Node a host process is: those of other majors, the one that is found, and none. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { NODE_START_MS, NODES } from "../../support/nodes.js";
import { INSTALLATION, PROJECT_ROOT } from "../../support/project.js";

const locations = {
  "/add": content(`t.reply(ts.import("calc.ts").addLater(1, 2))`),
  "/large": content(`
    local text = ("x"):rep(3000000)
    local back, err, code = ts.import("calc.ts").echo(text)
    t.reply(back == text, err, code)`),
  "/throw": content(`t.reply(ts.import("faults.ts").reject("so it is"))`),
  "/plugin": `
    header_filter_by_lua_block { require("resty.ts.http").header_filter("hello") }
    content_by_lua_block { require("resty.ts.http").content("hello", { word = "there" }) }`,
};

const HELLO = `
import { definePlugin, Type } from "resty-ts";
export default definePlugin({
  name: "hello",
  version: "1.0.0",
  schema: Type.Object({ word: Type.String() }),
  content: async (ctx, { conf }) => new Response((await ctx.request.text()) + conf.word),
  headerFilter(ctx) { ctx.response.headers.set("x-node", process.version); },
});`;

describe("a host process of", () => {
  for (const { major, node, skip } of NODES) {
    test(`Node ${String(major)} calls functions and runs plugins`, { skip }, () =>
      withNginx(
        {
          files: { "plugins/hello.ts": HELLO },
          initWorker: `assert(require("support").start {
            runtime = "process", node = "${node}", timeout_ms = 20000, sync_timeout_ms = 10000,
            start_timeout_ms = ${String(NODE_START_MS)},
            plugins = ngx.config.prefix() .. "plugins" })`,
          locations: {
            ...locations,
            "/_stats": content("t.json(ts.stats())"),
          },
          allowLog: [/so it is/],
        },
        async (nginx) => {
          await untilState(nginx, "ready", NODE_START_MS);
          const version = (await statsOf(nginx)).node_version ?? "";
          assert.match(version, new RegExp(`^v${String(major)}\\.`));
          assert.deepEqual(await nginx.json("/add"), { value: 3 });
          assert.deepEqual(await nginx.json("/large"), { value: true });
          assert.equal((await nginx.json<Answer>("/throw")).code, "handler_failed");
          const answer = await nginx.ask("/plugin", { method: "POST", body: "hello " });
          assert.equal(answer.text, "hello there");
          assert.equal(answer.headers["x-node"], version);
        },
      ),
    );
  }
});

describe("without runtime in ts.start", () => {
  test("Node is embedded where a libnode is found, and the error log says so", () =>
    withNginx({ ts: { timeout_ms: 20_000 }, locations }, async (nginx) => {
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
      await nginx.waitForLog(/Node v\d+\S* is embedded in the worker: .*libnode/);
    }));

  test("Node is a process where none is found, and the error log says why", () =>
    withNginx(
      {
        // A library folder with neither backends nor libnode.
        files: { "lib/.keep": "" },
        initWorker: `
          local libraries, lib = "${INSTALLATION.libraries}/", ngx.config.prefix() .. "lib/"
          for _, name in ipairs { "libresty_ts.so", "resty_ts.node" } do
              local file = assert(io.open(libraries .. name, "rb"))
              local copy = assert(io.open(lib .. name, "wb"))
              copy:write(file:read("*a"))
              copy:close()
              file:close()
          end
          assert(require("support").start {
              library = lib .. "libresty_ts.so", host = "${INSTALLATION.host}", timeout_ms = 20000 })`,
        locations,
      },
      async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        await nginx.waitForLog(
          /is a process beside the worker, as none can be embedded: .*no backend/,
        );
      },
    ));
});

describe("a node that cannot be used is no_node:", () => {
  const bad: [what: string, node: string, text: RegExp][] = [
    ["one that is not there", "/nonexistent/node", /\/nonexistent\/node is not a program/],
    ["a name that is nowhere on the PATH", "no-such-node", /there is no no-such-node in \//],
    ["a file that is no program", join(PROJECT_ROOT, "package.json"), /package\.json/],
  ];
  for (const [what, node, text] of bad) {
    test(what, () =>
      withNginx(
        { ts: { runtime: "process", node }, locations, allowLog: [/no usable node/] },
        async (nginx) => {
          const answer = await nginx.json<Answer>("/add");
          assert.equal(answer.code, "no_node");
          assert.match(answer.err ?? "", text);
        },
      ),
    );
  }

  test("a program that is no node ends the start, with what it printed", () =>
    withNginx(
      {
        ts: { runtime: "process", node: "/bin/ls" },
        locations,
        allowLog: [/did not start|crash loop/],
      },
      async (nginx) => {
        const answer = await nginx.json<Answer>("/add");
        assert.match(answer.err ?? "", /exit code 2.*ls: unrecognized option/);
      },
    ));
});
