/** ts.reload with modules, and what begins a reload by itself: a file that is touched, a change that is seen. */
import assert from "node:assert/strict";
import { utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { type Nginx, type NginxOptions, withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

interface Report {
  reloaded: string[];
  refused: Record<string, string>;
  unchanged: number;
}

const LOCATIONS = {
  "= /reload": content(`
    local report, err, code = ts.reload()
    t.reply(report, err, code)`),
  "= /f": content(`t.reply(ts.import("a.ts").f(ngx.var.arg_x))`),
  "= /g": content(`t.reply(ts.import("./a.ts").g())`),
};

const options = (text: string, more: NginxOptions = {}): NginxOptions => ({
  ts: {},
  ...more,
  modules: { "a.ts": text, ...more.modules },
  locations: more.locations ?? LOCATIONS,
});

const write = (nginx: Nginx, name: string, text: string): void => {
  writeFileSync(join(nginx.prefix, "modules", name), text);
};

async function reload(nginx: Nginx): Promise<Report> {
  const { value, err } = await nginx.json<Answer<Report>>("/reload");
  assert.equal(err, undefined);
  return value!;
}

const valueOf = async (nginx: Nginx, path = "/f"): Promise<unknown> =>
  (await nginx.json<Answer>(path)).value;

describe("a module that has changed", () => {
  test("answers the first call after ts.reload, by each of its names; one that has not keeps its state", () =>
    withNginx(options("export const f = () => 1; export const g = () => 10;"), async (nginx) => {
      assert.deepEqual([await valueOf(nginx), await valueOf(nginx, "/g")], [1, 10]);
      assert.equal((await reload(nginx)).unchanged, 1);
      write(
        nginx,
        "a.ts",
        "let calls = 0; export const f = () => ++calls; export const g = () => calls;",
      );
      assert.deepEqual((await reload(nginx)).reloaded, ["a.ts"]);
      assert.deepEqual([await valueOf(nginx), await valueOf(nginx, "/g")], [1, 1]);
      await reload(nginx);
      assert.equal(await valueOf(nginx), 2);
    }));

  test("is refused when it is broken or lacks a function in use, and the one before goes on", () =>
    withNginx(options("export const f = () => 1;", { allowLog: [/\[error\]/] }), async (nginx) => {
      assert.equal(await valueOf(nginx), 1);
      for (const [text, says] of [
        ["export const f = () => {", /a\.ts:1:/],
        ["export const h = () => 1;", /f is not among the exported functions \(h\)/],
      ] as const) {
        write(nginx, "a.ts", text);
        const { refused, reloaded } = await reload(nginx);
        assert.match(refused["a.ts"] ?? "", says);
        assert.deepEqual(reloaded, {});
        assert.equal(await valueOf(nginx), 1);
      }
      write(nginx, "a.ts", "export const f = () => 2;");
      await reload(nginx);
      assert.equal(await valueOf(nginx), 2);
    }));

  test("is handed what the one before gives", () =>
    withNginx(
      options(
        "const seen = ['a']; export const f = (x: string) => seen.push(x); export const handoff = () => seen;",
      ),
      async (nginx) => {
        assert.equal(await valueOf(nginx, "/f?x=b"), 2);
        write(
          nginx,
          "a.ts",
          "let seen: string[]; export const takeover = async (old: string[]) => { seen = old; }; export const f = () => seen.join();",
        );
        await reload(nginx);
        assert.equal(await valueOf(nginx), "a,b");
      },
    ));

  test("does not disturb a call under way", () =>
    withNginx(
      options(`import { existsSync } from "node:fs"; import { setTimeout as sleep } from "node:timers/promises";
        export async function f(gate: string) { console.log("waits"); while (!existsSync(gate)) await sleep(5); return 1; }`),
      async (nginx) => {
        const gate = join(nginx.prefix, "gate");
        const slow = valueOf(nginx, `/f?x=${gate}`);
        await until("it waits", () => nginx.errorLog().includes("waits"));
        write(nginx, "a.ts", "export const f = () => 2;");
        await reload(nginx);
        assert.equal(await valueOf(nginx), 2);
        writeFileSync(gate, "");
        assert.equal(await slow, 1);
      },
    ));

  test("that failed at first is good after it has been mended", () =>
    withNginx(
      options("throw new Error('not yet');", { allowLog: [/\[error\]/] }),
      async (nginx) => {
        assert.equal((await nginx.json<Answer>("/f")).code, "module_failed");
        write(nginx, "a.ts", "export const f = () => 2;");
        assert.deepEqual((await reload(nginx)).reloaded, ["a.ts"]);
        assert.equal(await valueOf(nginx), 2);
      },
    ));
});

describe("a reload of its own accord", () => {
  test("comes with reload_file, in every worker, when the file is made or touched", () => {
    const from = (prefix: string): string => `local o = { reload_file = ${prefix} .. "now" }`;
    return withNginx(
      {
        ...options("export const f = () => 1;"),
        ts: false,
        workers: 2,
        initWorker: `${from("ngx.config.prefix()")}
          assert(require("support").start(o))`,
      },
      async (nginx) => {
        assert.equal(await valueOf(nginx), 1);
        const file = join(nginx.prefix, "now");
        for (const n of [2, 3]) {
          write(nginx, "a.ts", `export const f = () => ${String(n)};`);
          writeFileSync(file, "");
          utimesSync(file, n, n);
          await until(`the answer is ${String(n)}`, async () => (await valueOf(nginx)) === n);
        }
      },
    );
  });

  test("comes with watch, when a module or a file that it imports is written", () =>
    withNginx(
      options(`import { b } from "./b.ts"; export const f = () => b;`, {
        ts: { watch: true },
        modules: { "b.ts": "export const b = 1;" },
      }),
      async (nginx) => {
        assert.equal(await valueOf(nginx), 1);
        write(nginx, "b.ts", "export const b = 2;");
        await until("the answer is 2", async () => (await valueOf(nginx)) === 2);
        write(nginx, "a.ts", "export const f = () => 3;");
        await until("the answer is 3", async () => (await valueOf(nginx)) === 3);
      },
    ));
});

describe("an environment after another", () => {
  for (const runtime of ["embedded", "process"] as const) {
    test(`has what was compiled before, ${runtime}; what has changed since is compiled anew`, () =>
      withNginx(
        options("export const f = () => 1; export const g = () => process.exit(3);", {
          ts: { runtime },
          modules: { "b.ts": "export const f = () => 10;" },
          locations: { ...LOCATIONS, "= /b": content(`t.reply(ts.import("b.ts").f())`) },
          allowLog: [/\[error\].*the environment ended/],
        }),
        async (nginx) => {
          const old = (name: string): void => {
            utimesSync(join(nginx.prefix, "modules", name), 1e9, 1e9);
          };
          old("a.ts");
          assert.deepEqual([await valueOf(nginx), await valueOf(nginx, "/b")], [1, 10]);
          // As it would not be done: it looks as before.
          write(nginx, "a.ts", "export const f = () => 2; export const g = () => process.exit(3);");
          old("a.ts");
          write(nginx, "b.ts", "export const f = () => 20;");
          assert.equal((await nginx.json<Answer>("/g")).code, "exited");
          assert.deepEqual([await valueOf(nginx), await valueOf(nginx, "/b")], [1, 20]);
        },
      ));
  }
});
