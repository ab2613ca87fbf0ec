/** Several nginx workers in APISIX, and Node in a process beside them. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Apisix, Resource } from "../../support/apisix.js";
import { hookConf, runtimeOf, withHooks } from "../../support/apisix-hooks.js";
import { type TypescriptOptions, withTypescript } from "../../support/apisix-plugins.js";
import { until } from "../../support/deadline.js";

const CLIENTS = 16;

interface Told {
  word: string;
  setups: number;
  /** The process that Node runs in, and nginx's worker. */
  node: number;
  worker: string;
}

const TELLS = `
  let setups = 0;
  export default definePlugin({
    name: "tells",
    schema: Type.Object({ word: Type.String() }),
    setup: () => ++setups,
    teardown: ({ conf }, { log }) => log.warn("end of " + conf.word),
    async access(ctx, { conf, state }) {
      const worker = await ctx.var.get("pid");
      return ctx.exit(200, { word: conf.word, setups: state, node: process.pid, worker });
    },
  });`;

const route = (word: string): Resource => ({ uri: "/a", plugins: { tells: { word } } });

const withWorkers = (
  settings: Record<string, string | boolean>,
  body: (a: Apisix) => Promise<void>,
  more: Partial<TypescriptOptions> = {},
): Promise<void> =>
  withTypescript(
    {
      typescript: { tells: TELLS },
      workers: 2,
      routes: [route("one")],
      pluginAttr: { "resty-ts": settings },
      ...more,
    },
    body,
  );

/** What each of two workers has told, by worker: the kernel chooses, so that many are asked. */
async function tellsOfBoth(a: Apisix): Promise<Map<string, Told[]>> {
  const told = new Map<string, Told[]>();
  await until("both workers have answered", async () => {
    const replies = await Promise.all(Array.from({ length: CLIENTS }, () => a.ask("/a")));
    for (const reply of replies) {
      assert.equal(reply.status, 200, reply.text);
      const one = reply.json<Told>();
      told.set(one.worker, [...(told.get(one.worker) ?? []), one]);
    }
    return told.size === 2;
  });
  return told;
}

const all = <T>(told: Map<string, Told[]>, what: (one: Told) => T): T[] => [
  ...new Set([...told.values()].flat().map(what)),
];

const SETTINGS = {
  embedded: { runtime: "embedded" },
  process: { runtime: "process" },
  "process, shared": { runtime: "process", shared: true },
};

for (const [name, settings] of Object.entries(SETTINGS)) {
  describe(`two workers, runtime ${name}`, () => {
    it("each sets a configuration up once, and a change counts in both", () =>
      withWorkers(settings, async (a) => {
        const before = await tellsOfBoth(a);
        assert.deepEqual(
          all(before, ({ word, setups }) => [word, setups].join()),
          ["one,1"],
        );
        const nodes = all(before, ({ node }) => node).length;
        assert.equal(nodes, name === "process, shared" ? 1 : 2);
        await a.change({ routes: [route("two")] });
        const after = await tellsOfBoth(a);
        assert.deepEqual(
          all(after, ({ word, setups }) => [word, setups].join()),
          ["two,2"],
        );
        assert.deepEqual([...after.keys()].sort(), [...before.keys()].sort());
        await until("both have torn the old one down", () => {
          return a.errorLog().match(/end of one/g)?.length === 2;
        });
      }));

    it("`apisix reload` replaces them, with what they had of Node", () =>
      withWorkers(settings, async (a) => {
        const before = await tellsOfBoth(a);
        await a.reload();
        const after = await tellsOfBoth(a);
        assert.deepEqual(
          all(after, ({ word, setups }) => [word, setups].join()),
          ["one,1"],
        );
        for (const worker of before.keys()) assert.equal(after.has(worker), false);
      }));
  });
}

describe("Node in a process", () => {
  const options: TypescriptOptions = {
    typescript: { tells: TELLS },
    routes: [
      { id: "tells", ...route("one") },
      {
        id: "hooks",
        uri: "/hooks",
        plugins: {
          ...hookConf("pre-req", [["marks", {}]]),
          ...hookConf("post-req", [["marks", {}]]),
          ...hookConf("post-resp", [["marks", {}]]),
        },
      },
      { id: "dies", uri: "/dies", plugins: hookConf("pre-req", [["dies", {}]]) },
    ],
    pluginAttr: { "resty-ts": { runtime: "process" } },
  };
  const hooks = {
    marks: `export default definePlugin({
      name: "marks", bufferResponse: { maxBytes: 65536 },
      access(ctx) { ctx.request.headers.append("x-mark", String(process.pid)); },
      headerFilter(ctx) { ctx.response.headers.set("x-mark", String(process.pid)); },
      bodyFilter: (ctx) => Buffer.concat([ctx.chunk, Buffer.from("|" + process.pid)]) });`,
    dies: `export default definePlugin({
      name: "dies", rewrite() { process.kill(process.pid, "SIGKILL"); } });`,
  };

  it("serves plugins and hooks, before the upstream and after", () =>
    withHooks(hooks, options, async (a) => {
      const { node, worker } = (await a.ask("/a")).json<Told>();
      assert.notEqual(String(node), worker);
      const { status, headers, text } = await a.ask("/hooks");
      assert.equal(status, 200, text);
      const mark = String(node);
      assert.equal(headers["x-mark"], mark);
      assert.ok(text.endsWith(`|${mark}`), text);
      assert.equal(a.upstream.seen[0]?.headers["x-mark"], `${mark}, ${mark}`);
    }));

  it("that dies takes the requests with it that it had, and the next one serves", () =>
    withHooks(hooks, { ...options, allowLog: [/dies, |exited|ended/] }, async (a) => {
      const before = (await a.ask("/a")).json<Told>();
      assert.equal((await a.ask("/dies")).status, 503);
      await until("the next process", async () => (await runtimeOf(a)).state === "ready");
      const after = (await a.ask("/a")).json<Told>();
      assert.notEqual(after.node, before.node);
      assert.deepEqual([after.worker, after.setups], [before.worker, 1]);
    }));
});
