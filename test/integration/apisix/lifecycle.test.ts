/** Reloads of APISIX and of its plugins, under load, and a runtime that is not there. */
import assert from "node:assert/strict";
import { renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import type { Apisix } from "../../support/apisix.js";
import {
  hookRoute,
  rewrites,
  type RuntimeReport,
  runtimeOf,
  withHooks,
} from "../../support/apisix-hooks.js";
import { type TypescriptOptions, withTypescript } from "../../support/apisix-plugins.js";
import { repeatUntil, until } from "../../support/deadline.js";

const CLIENTS = 6;

const answers = (word: string): string => `
  export default definePlugin({
    name: "answers",
    schema: Type.Object({ word: Type.Optional(Type.String()) }),
    teardown: ({ conf }, { log }) => log.warn("end of " + conf.word),
    access: (ctx, { conf }) => ctx.exit(200, (conf.word ?? "") + "${word}"),
  });`;

const options: TypescriptOptions = {
  typescript: { answers: answers("1") },
  routes: [{ uri: "/a", plugins: { answers: { word: "w" } } }],
};

/** Every answer while the clients ask one after the other until `done`; and how many there were. */
async function load(a: Apisix, path: string, done: Promise<unknown>): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  const client = () =>
    repeatUntil(done, async () => {
      const { status, text } = await a.ask(path);
      const key = `${String(status)} ${text}`;
      seen.set(key, (seen.get(key) ?? 0) + 1);
    });
  await Promise.all([done, ...Array.from({ length: CLIENTS }, client)]);
  return seen;
}

/** In one step, as a reload may be reading. The import is put before it, as by the harness. */
function writePlugin(a: Apisix, name: string, source: string): void {
  const path = join(a.server.folder, "plugins", `${name}.ts`);
  writeFileSync(`${path}.new`, `import { definePlugin, Type } from "resty-ts";\n${source}`);
  renameSync(`${path}.new`, path);
}

describe("apisix reload", () => {
  it("under load answers each request, and the new workers have a runtime of their own", () =>
    withTypescript(options, async (a) => {
      const before = (await runtimeOf(a)).runtime?.thread_id;
      const reloads = async (): Promise<void> => {
        for (let i = 0; i < 3; i++) await a.reload();
      };
      const seen = await load(a, "/a", reloads());
      assert.deepEqual([...seen.keys()], ["200 w1"]);
      assert.notEqual((await runtimeOf(a)).runtime?.thread_id, before);
    }));

  it("under load loses no request of the hooks either", () =>
    withHooks(
      { passes: rewrites("passes", `return ctx.exit(200, "passed");`) },
      { routes: [hookRoute("/a", "pre-req", [["passes", {}]])] },
      async (a) => {
        const seen = await load(a, "/a", a.reload());
        assert.deepEqual([...seen.keys()], ["200 passed"]);
      },
    ));
});

describe("plugin hot reload", () => {
  it("under load answers each request, by one version or the other, then by the new one", () =>
    withTypescript(options, async (a) => {
      const reloads = async (): Promise<void> => {
        for (const version of ["2", "3", "4"]) {
          writePlugin(a, "answers", answers(version));
          await a.reloadPlugins();
          await until(`version ${version}`, async () => (await a.ask("/a")).text === `w${version}`);
        }
      };
      const seen = await load(a, "/a", reloads());
      for (const answer of seen.keys()) assert.match(answer, /^200 w[1-4]$/);
      assert.equal((await a.ask("/a")).text, "w4");
    }));

  it("keeps the runtime, and what has not changed", () =>
    withTypescript(options, async (a) => {
      assert.equal((await a.ask("/a")).text, "w1");
      const before = await runtimeOf(a);
      for (let i = 0; i < 3; i++) await a.reloadPlugins();
      assert.equal((await a.ask("/a")).text, "w1");
      const after = await runtimeOf(a);
      assert.equal(after.runtime?.thread_id, before.runtime?.thread_id);
      const places = (report: RuntimeReport): string[] =>
        report.contexts.map(
          ({ plugin, resource, contexts }) => `${plugin} ${resource} ${contexts}`,
        );
      assert.deepEqual(places(after), places(before));
      assert.doesNotMatch(a.errorLog(), /end of/);
    }));

  it("refuses a version that is broken: the one before goes on", () =>
    withTypescript({ ...options, allowLog: [/answers/] }, async (a) => {
      assert.equal((await a.ask("/a")).text, "w1");
      writePlugin(a, "answers", "export default definePlugin({");
      await a.reloadPlugins();
      await a.untilLog(/\[error\].*answers/);
      assert.equal((await a.ask("/a")).text, "w1");
      writePlugin(a, "answers", answers("2"));
      await a.reloadPlugins();
      await until("the mended version", async () => (await a.ask("/a")).text === "w2");
    }));

  it("ends the contexts of a plugin that config.yaml has no longer", () =>
    withTypescript(options, async (a) => {
      assert.equal((await a.ask("/a")).text, "w1");
      await a.reloadPlugins(["resty-ts"]);
      await a.untilLog(/end of w/);
      assert.deepEqual((await runtimeOf(a)).contexts, []);
    }));
});

describe("changes under load", () => {
  it("each request is answered with a configuration that was there, the last with the newest", () =>
    withTypescript(options, async (a) => {
      assert.equal((await a.ask("/a")).text, "w1");
      const words = Array.from({ length: 5 }, (_, i) => `v${String(i)}`);
      const changes = async (): Promise<void> => {
        for (const word of words) {
          await a.change({ routes: [{ uri: "/a", plugins: { answers: { word } } }] });
          assert.equal((await a.ask("/a")).text, `${word}1`);
        }
      };
      const seen = await load(a, "/a", changes());
      for (const answer of seen.keys()) assert.match(answer, /^200 (?:w|v\d)1$/);
      for (const word of ["w", ...words.slice(0, -1)])
        await a.untilLog(new RegExp(`end of ${word}`));
      assert.equal((await runtimeOf(a)).contexts[0]?.contexts, 1);
    }));

  it("a route that goes takes its context with it", () =>
    withTypescript(options, async (a) => {
      assert.equal((await a.ask("/a")).text, "w1");
      await a.change({ routes: [] });
      assert.equal((await a.ask("/a")).status, 404);
      await until("the teardown", () => /end of w/.test(a.errorLog()), 30_000);
    }));
});

describe("a runtime that is not there", () => {
  const nowhere = { runtime: "embedded", libnode: "/nonexistent/libnode.so.108" };
  const allowLog = [/resty\.ts: /, /libnode/];

  it("a plugin answers 503, the hooks too, or let the request pass with allow_degradation", () =>
    withHooks(
      { passes: rewrites("passes", `return ctx.exit(200, "passed");`) },
      {
        typescript: { answers: answers("1") },
        routes: [
          { id: "plugin", uri: "/plugin", plugins: { answers: {} } },
          { id: "hook", ...hookRoute("/hook", "pre-req", [["passes", {}]]) },
          {
            id: "open",
            ...hookRoute("/open", "pre-req", [["passes", {}]], { allow_degradation: true }),
          },
          {
            id: "post",
            ...hookRoute("/post", "post-resp", [["passes", {}]], { allow_degradation: true }),
          },
        ],
        pluginAttr: { "resty-ts": nowhere },
        allowLog,
      },
      async (a) => {
        assert.equal((await a.ask("/plugin")).status, 503);
        assert.equal((await a.ask("/hook")).status, 503);
        const open = await a.ask("/open");
        assert.deepEqual([open.status, open.json().url], [200, "/open"]);
        assert.equal((await a.ask("/post")).status, 200);
        const { status, text } = await a.control("/v1/plugin/resty-ts");
        assert.equal(status, 503);
        assert.match(text, /libnode/);
      },
    ));

  it("without plugin_attr.resty-ts the error log and the control API say what to do", () =>
    withHooks(
      { passes: rewrites("passes", "") },
      {
        routes: [hookRoute("/hook", "pre-req", [["passes", {}]])],
        pluginAttr: { "resty-ts": null },
        allowLog,
      },
      async (a) => {
        assert.equal((await a.ask("/hook")).status, 503);
        await a.untilLog(/config\.yaml has no plugin_attr\.resty-ts: set plugins/);
        const { status, text } = await a.control("/v1/plugin/resty-ts");
        assert.equal(status, 503);
        assert.match(text, /set plugins/);
      },
    ));
});
