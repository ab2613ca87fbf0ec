/** ts.reload with HTTP plugins: what is new serves at once, what is under way ends as it began. */
import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, test } from "node:test";
import { untilState } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { type Nginx, type NginxOptions, withNginx } from "../../support/nginx.js";
import { content, plainContent } from "../../support/nginx-config.js";
import { ANY_CONF, ok, phase, plugin, route } from "../../support/plugin-phases.js";
import { keptOf, untilNothingKept, withPlugins } from "../../support/plugins.js";

interface Report {
  reloaded: string[] | Record<string, never>;
  refused: Record<string, string>;
  unchanged: number;
}

const RELOAD = {
  "= /_reload": plainContent(`
    local report, err = require("resty.ts").reload()
    if not report then ngx.status = 500 return ngx.print(err) end
    ngx.print(require("cjson").encode(report))`),
};

const write = (nginx: Nginx, name: string, text: string): void => {
  const file = join(nginx.prefix, "plugins", name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
};

const reload = (nginx: Nginx): Promise<Report> => nginx.json<Report>("/_reload");

/** Writes a plugin's new version and has it loaded. */
async function change(nginx: Nginx, name: string, text: string): Promise<Report> {
  write(nginx, `${name}.ts`, text);
  return reload(nginx);
}

/** Answers in access with its version. */
const version = (name: string, number: number, more = ""): string =>
  plugin(`name: "${name}", ${ANY_CONF} ${more}
    access(ctx) { ctx.response.headers.append("x-${name}", "${number}"); },`);

const withChain = (names: string[], more: NginxOptions = {}) => ({
  ...more,
  initWorker: `require("resty.ts.http").route("all", { ${names.map((name) => `"${name}"`).join(", ")} })`,
  locations: { ...RELOAD, "= /": route("all") + ok, ...more.locations },
});

describe("a plugin that has changed", () => {
  test("serves the first request after ts.reload, in chains and inline; others are not set up again", () => {
    const plugins = {
      a: version("a", 1),
      b: version("b", 1, "setup() { console.log('b set up'); },"),
    };
    const inline = { "= /inline": phase("access", `http.access("a", { x = 1 })`) + ok };
    return withPlugins(plugins, withChain(["a", "b"], { locations: inline }), async (nginx) => {
      for (let i = 1; i <= 4; i++) {
        if (i > 1) {
          const report = await change(nginx, "a", version("a", i));
          assert.deepEqual(report, { reloaded: ["a"], refused: {}, unchanged: 1 });
        }
        for (const path of ["/", "/inline"]) {
          const { headers } = await nginx.ask(path);
          assert.equal(headers["x-a"], String(i), path);
        }
        assert.equal((await nginx.ask("/")).headers["x-b"], "1");
      }
      assert.equal(nginx.errorLog().split("b set up").length - 1, 1);
      assert.match(nginx.errorLog(), /\[notice\].*reloaded: a/);
      // What came before is given back.
      await until("there are two chains", async () => (await keptOf(nginx)).chains === 2);
    });
  });

  test("may have other phases, needs and a schema, also in a chain", () => {
    const plugins = { a: version("a", 1) };
    return withPlugins(plugins, withChain(["a"]), async (nginx) => {
      await nginx.ask("/");
      await change(
        nginx,
        "a",
        plugin(`name: "a", needs: { vars: ["request_method", "host"] },
          headerFilter(ctx) { ctx.response.headers.set("x-a", ctx.vars.host + " " + ctx.vars.request_method); },
          bodyFilter(ctx) { return Buffer.from(ctx.chunk).toString().toUpperCase(); },`),
      );
      const reply = await nginx.ask("/");
      assert.equal(reply.headers["x-a"], "127.0.0.1 GET");
      assert.equal(reply.text, "OK");
      await change(nginx, "a", version("a", 3));
      const last = await nginx.ask("/");
      assert.deepEqual([last.headers["x-a"], last.text], ["3", "ok"]);
    });
  });

  test("with a file that it imports is new", () => {
    const text = (value: string): string => `export const value = "${value}";`;
    const plugins = {
      a: `import { value } from "./lib/value.ts";\n${plugin(`name: "a", access(ctx) { ctx.response.headers.set("x-a", value); },`)}`,
    };
    const files = { "plugins/lib/value.ts": text("one") };
    return withPlugins(plugins, withChain(["a"], { files }), async (nginx) => {
      assert.equal((await nginx.ask("/")).headers["x-a"], "one");
      write(nginx, "lib/value.ts", text("two"));
      assert.deepEqual((await reload(nginx)).reloaded, ["a"]);
      assert.equal((await nginx.ask("/")).headers["x-a"], "two");
    });
  });

  for (const [what, text, says] of [
    ["does not compile", "export default {", /a\.ts:1:/],
    ["throws while it loads", "throw new Error('no luck');", /no luck/],
    ["is no plugin", "export default 1;", /default export/],
    [
      "refuses a configuration in use",
      plugin(`name: "a", schema: { type: "object", required: ["k"] }, access() {},`),
      /k/,
    ],
    ["fails in setup", version("a", 2, "setup() { throw new Error('no set-up'); },"), /no set-up/],
  ] as const) {
    test(`is refused when it ${what}, with the reason, and the one before goes on`, () => {
      const plugins = { a: version("a", 1), b: version("b", 1) };
      const options = withChain(["a", "b"], { allowLog: [/\[error\]/] });
      return withPlugins(plugins, options, async (nginx) => {
        await nginx.ask("/");
        write(nginx, "b.ts", version("b", 2));
        const report = await change(nginx, "a", text);
        assert.deepEqual(report.reloaded, ["b"]);
        assert.match(report.refused["a"] ?? "", says);
        assert.match(
          nginx.errorLog(),
          /\[error\].*a was not reloaded, the version before it goes on/,
        );
        const { headers } = await nginx.ask("/");
        assert.deepEqual([headers["x-a"], headers["x-b"]], ["1", "2"]);
        assert.deepEqual((await change(nginx, "a", version("a", 3))).reloaded, ["a"]);
        assert.equal((await nginx.ask("/")).headers["x-a"], "3");
      });
    });
  }

  test("is loaded when it has been mended, if it did not load at first", () => {
    const plugins = { a: "export default {" };
    return withPlugins(plugins, withChain(["a"], { allowLog: [/\[error\]/] }), async (nginx) => {
      assert.equal((await nginx.ask("/")).status, 500);
      write(nginx, "a.ts", version("a", 2));
      await reload(nginx);
      assert.equal((await nginx.ask("/")).headers["x-a"], "2");
    });
  });

  test("is set up once when several reload at once, and serves when each has its report", () => {
    const plugins = { a: version("a", 1) };
    const together = plainContent(`
      local ts, threads = require "resty.ts", {}
      for i = 1, 3 do
          threads[i] = ngx.thread.spawn(function()
              assert(ts.reload())
              ngx.say(ngx.location.capture("/sub").header["x-a"])
          end)
      end
      for i = 1, 3 do ngx.thread.wait(threads[i]) end`);
    // Subrequests have no access phase.
    const sub = phase("rewrite", `http.access("a")`) + ok;
    const options = withChain(["a"], { locations: { "= /_together": together, "= /sub": sub } });
    return withPlugins(plugins, options, async (nginx) => {
      await Promise.all(["/", "/sub"].map((path) => nginx.ask(path)));
      write(nginx, "a.ts", version("a", 2, "setup() { console.log('a set up'); },"));
      assert.equal((await nginx.ask("/_together")).text, "2\n2\n2\n");
      assert.equal((await nginx.ask("/")).headers["x-a"], "2");
      assert.equal(nginx.errorLog().split("a set up").length - 1, 2); // for each chain
    });
  });

  test("is handed what the one before gives, which is torn down when it is out of use", () => {
    const text = (n: number): string =>
      plugin(`name: "a", version: "${n}",
        setup(conf, { previous }) { return { seen: [...(previous ?? []), "${n}"] }; },
        handoff({ state }) { return state.seen; },
        teardown({ state }, { replaced }) { console.log("torn down", "${n}", replaced); },
        access(ctx, { state }) { ctx.response.headers.set("x-a", state.seen.join()); },`);
    const plugins = { a: text(1) };
    return withPlugins(plugins, withChain(["a"]), async (nginx) => {
      assert.equal((await nginx.ask("/")).headers["x-a"], "1");
      await change(nginx, "a", text(2));
      await change(nginx, "a", text(3));
      assert.equal((await nginx.ask("/")).headers["x-a"], "1,2,3");
      for (const n of ["1", "2"]) {
        await until(`${n} is torn down`, () => nginx.errorLog().includes(`torn down ${n} true`));
      }
      assert.ok(!nginx.errorLog().includes("torn down 3"));
    });
  });
});

describe("a request that is under way", () => {
  /** Waits in access and as a stream until the file is there. */
  const text = (n: number): string => `
    import { existsSync } from "node:fs";
    import { setTimeout as sleep } from "node:timers/promises";
    ${plugin(`name: "a", schema: { type: "object", properties: { gate: {} } },
      teardown() { console.log("torn down ${n}"); },
      async access(ctx, { conf }) {
        ctx.local.set("begun", "${n}");
        if (ctx.request.path === "/wait") {
          console.log("waits ${n}");
          while (!existsSync(conf.gate)) await sleep(5);
        }
      },
      async content(ctx, { conf }) {
        if (ctx.request.path !== "/stream") return new Response("plain");
        return new Response(new ReadableStream({
          start(c) { c.enqueue(new TextEncoder().encode("a${n}")); console.log("streams ${n}"); },
          async pull(c) {
            while (!existsSync(conf.gate)) await sleep(5);
            c.enqueue(new TextEncoder().encode("b${n}")); c.close();
          },
        }));
      },
      headerFilter(ctx) { ctx.response.headers.set("x-phases", ctx.local.get("begun") + "${n}"); },
      bodyFilter(ctx) { return "[" + Buffer.from(ctx.chunk).toString() + "]"; },`)}`;

  for (const path of ["/wait", "/stream"]) {
    test(`${path.slice(1)}s on with the version that it began with, which is torn down after it`, () => {
      const chain = (where: string): string => `set $resty_ts_route all; ${where}`;
      const plugins = { a: text(1) };
      return withPlugins(
        plugins,
        {
          initWorker: `
            require("resty.ts.http").route("all", { { "a", { gate = ngx.config.prefix() .. "gate" } } })`,
          locations: {
            ...RELOAD,
            [`= ${path}`]: chain(
              ["access", "content", "header_filter", "body_filter"]
                .map((name) => phase(name, "http.run()"))
                .join("\n"),
            ),
            "= /now": chain(
              ["access", "content", "header_filter", "body_filter"]
                .map((name) => phase(name, "http.run()"))
                .join("\n"),
            ),
          },
        },
        async (nginx) => {
          const slow = nginx.ask(path);
          await until("it is under way", () => /(waits|streams) 1/.test(nginx.errorLog()));
          await change(nginx, "a", text(2));
          const now = await nginx.ask("/now");
          assert.equal(now.headers["x-phases"], "22");
          assert.ok(!nginx.errorLog().includes("torn down 1"));
          writeFileSync(join(nginx.prefix, "gate"), "");
          const reply = await slow;
          assert.equal(reply.headers["x-phases"], "11");
          assert.equal(reply.text.replaceAll(/[[\]]/g, ""), path === "/stream" ? "a1b1" : "plain");
          await until("the old one is torn down", () => nginx.errorLog().includes("torn down 1"));
          await untilNothingKept(nginx);
        },
      );
    });
  }
});

for (const runtime of ["embedded", "process"]) {
  describe(`what does not settle, ${runtime}`, () => {
    const never = "new Promise(() => undefined)";
    const gaveUp = (what: string): RegExp => new RegExp(`${what} did not settle within 3000 ms`);
    const options = (plugins: Record<string, string>): NginxOptions => ({
      ts: { runtime, plugins: "plugins", start_timeout_ms: 3000 },
      files: Object.fromEntries(
        Object.entries(plugins).map(([name, text]) => [`plugins/${name}.ts`, text]),
      ),
      allowLog: [/did not settle within 3000 ms/],
    });

    test("is refused at a reload, while others are reloaded; the next reload works", () => {
      const names = ["a", "b", "c"];
      const plugins = Object.fromEntries(names.map((name) => [name, version(name, 1)]));
      return withNginx(
        {
          ...options(plugins),
          ...withChain(names),
          modules: { "m.ts": `export const f = () => 1; export const handoff = () => ${never};` },
          locations: {
            ...withChain(names).locations,
            "= /module": content(`t.reply(ts.import("m.ts").f())`),
          },
        },
        async (nginx) => {
          await nginx.ask("/");
          await nginx.ask("/module");
          write(nginx, "a.ts", version("a", 2, `setup: () => ${never},`));
          write(nginx, "b.ts", `await ${never};\n${version("b", 2)}`);
          write(nginx, "c.ts", version("c", 2));
          write(nginx, "../modules/m.ts", "export const f = () => 2;");
          const { reloaded, refused } = await reload(nginx);
          assert.deepEqual(reloaded, ["c"]);
          assert.deepEqual(Object.keys(refused).sort(), ["a", "b", "m.ts"]);
          assert.match(refused["a"]!, gaveUp("a setup"));
          assert.match(refused["b"]!, gaveUp("b.ts: .*top level"));
          assert.match(refused["m.ts"]!, gaveUp("m.ts handoff"));
          for (const name of ["a", "b"]) write(nginx, `${name}.ts`, version(name, 3));
          assert.deepEqual((await reload(nginx)).reloaded, ["a", "b"]);
          const { headers } = await nginx.ask("/");
          assert.deepEqual(
            names.map((name) => headers[`x-${name}`]),
            ["3", "3", "2"],
          );
        },
      );
    });

    test("is refused at its first use, and is tried again once it has changed", () => {
      const plugins = {
        setup: version("setup", 1, `setup: () => ${never},`),
        top: `await ${never};\n${version("top", 1)}`,
      };
      const names = Object.keys(plugins);
      const locations = Object.fromEntries(
        names.map((name) => [`= /${name}`, phase("access", `http.access("${name}")`) + ok]),
      );
      return withNginx(
        { ...options(plugins), locations: { ...RELOAD, ...locations } },
        async (nginx) => {
          await untilState(nginx, "ready");
          const replies = await Promise.all(names.map((name) => nginx.ask(`/${name}`)));
          assert.deepEqual(
            replies.map(({ status }) => status),
            [500, 500],
          );
          assert.match(
            nginx.errorLog(),
            /setup, access, request .*setup did not settle within 3000/,
          );
          assert.match(nginx.errorLog(), /top, access, request .*top level did not settle within/);
          for (const name of names) write(nginx, `${name}.ts`, version(name, 2));
          await reload(nginx);
          for (const name of names) {
            assert.equal((await nginx.ask(`/${name}`)).headers[`x-${name}`], "2");
          }
        },
      );
    });
  });
}
