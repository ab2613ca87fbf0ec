/** A start that fails: the reason reaches the caller and the log, and nginx serves on. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { untilState, type Answer } from "../../support/bridge.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

interface Case {
  title: string;
  /** As Lua, where `prefix` is nginx's. */
  options: string;
  code: RegExp;
  says: RegExp;
}

const HOSTS = {
  "silent-host.cjs": "exports.main = () => setInterval(() => undefined, 1000);",
  "throwing-host.cjs": `throw new Error("the host is unwell");`,
  "broken-host.cjs": "const = ;",
  "empty-host.cjs": "exports.other = 1;",
  "ending-host.cjs": "process.exit(7);",
};

const ENDED = /^(exited|unavailable)$/;

const cases: Case[] = [
  {
    title: "a libnode that is not there",
    options: `libnode = "/nonexistent/libnode.so.108"`,
    code: /^no_libnode$/,
    says: /\/nonexistent\/libnode\.so\.108/,
  },
  {
    title: "a libnode that is no library",
    options: `libnode = "/etc/passwd"`,
    code: /^no_libnode$/,
    says: /\/etc\/passwd/,
  },
  {
    title: "a host file that is not there",
    options: `host = "/nonexistent/host.cjs"`,
    code: /^no_host$/,
    says: /\/nonexistent\/host\.cjs/,
  },
  {
    title: "a host that throws",
    options: `host = prefix .. "throwing-host.cjs"`,
    code: ENDED,
    says: /the host is unwell/,
  },
  {
    title: "a host that does not compile",
    options: `host = prefix .. "broken-host.cjs"`,
    code: ENDED,
    says: /SyntaxError|broken-host\.cjs/,
  },
  {
    title: "a host that is none",
    options: `host = prefix .. "empty-host.cjs"`,
    code: ENDED,
    says: /main is not a function/,
  },
  {
    title: "a host that ends at once",
    options: `host = prefix .. "ending-host.cjs"`,
    code: ENDED,
    says: /exit code 7/,
  },
  {
    title: "a host that never says that it is ready",
    options: `host = prefix .. "silent-host.cjs", start_timeout_ms = 300`,
    code: /^timeout$/,
    says: /is not ready/,
  },
];

describe("a start that fails", () => {
  for (const { title, options, code, says } of cases) {
    test(`${title} is told in words, by the call or by start itself, and in the log; nginx serves on`, () =>
      withNginx(
        {
          files: HOSTS,
          initWorker: `
            local t = require "support"
            local prefix = ngx.config.prefix()
            local ok, err, code = t.start { ${options} }
            if not ok then ngx.log(ngx.ERR, err) end
            t.keep("start", ok, err, code)`,
          locations: {
            "/start": content(`t.recall("start")`),
            "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
            "/sync": content(`t.reply(ts.call_sync(ts.import("calc.ts").add, 5000, 1, 2))`),
            "/_stats": content(`t.json(ts.stats())`),
            "/plain": `return 200 "nginx is here";`,
          },
          allowLog: [/\[(?:error|alert|crit|emerg)\]/],
        },
        async (nginx) => {
          const worker = nginx.workerPid();
          const start = await nginx.json<Answer>("/start");
          const told = start.value === true ? ["/add", "/add", "/sync"] : ["/start"];
          for (const path of told) {
            const answer = await nginx.json<Answer>(path);
            assert.equal(answer.value, undefined);
            assert.match(answer.code ?? "", code, answer.err);
            assert.match(answer.err ?? "", says);
          }
          if (start.value === true) {
            const never = code.test("timeout") ? "starting" : "backing_off";
            await untilState(nginx, code.test("no_libnode") ? "failed" : never);
          }
          await nginx.waitForLog(says);
          const after = await nginx.json<Answer>("/add");
          assert.equal(after.value, undefined);
          assert.equal(typeof after.code, "string");
          assert.equal((await nginx.ask("/plain")).text, "nginx is here");
          assert.equal(nginx.workerPid(), worker);
        },
      ));
  }

  test("a library that is not there is told by start itself", () =>
    withNginx(
      {
        ts: { library: "/nonexistent/libresty_ts.so" },
        initWorker: `t.keep("start", started, start_err, start_code)`,
        locations: { "/start": content(`t.recall("start")`) },
        allowLog: [/\[error\].*\/nonexistent\/libresty_ts\.so/],
      },
      async (nginx) => {
        const answer = await nginx.json<Answer>("/start");
        assert.equal(answer.value, undefined);
        assert.match(answer.err ?? "", /\/nonexistent\/libresty_ts\.so/);
        assert.equal(typeof answer.code, "string");
      },
    ));

  test("a folder of modules that is not there is told by start or by the call", () =>
    withNginx(
      {
        initWorker: `
          local t = require "support"
          t.keep("start", t.start { modules = "/nonexistent/modules" })`,
        locations: {
          "/start": content(`t.recall("start")`),
          "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
        },
        allowLog: [/\[error\]/],
      },
      async (nginx) => {
        const start = await nginx.json<Answer>("/start");
        const told = start.value === true ? await nginx.json<Answer>("/add") : start;
        assert.equal(told.value, undefined);
        assert.match(told.err ?? "", /\/nonexistent\/modules/);
      },
    ));
});
