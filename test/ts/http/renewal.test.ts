/** Newer plugins beside those in use: who gets what, what is set up and torn down, and how often. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Engine } from "../../../src/http/engine.ts";
import { encodeHead } from "../../../src/http/head.ts";
import { PhaseNumber } from "../../../src/http/phases.ts";
import type { Changes } from "../../../src/http/changes.ts";
import { definePlugin, type Plugin } from "../../../src/sdk/index.ts";

const log = { error() {}, warn() {}, notice() {}, info() {}, debug() {} };

interface Gate {
  promise: Promise<void>;
  open: () => void;
}

function gate(): Gate {
  let open = (): void => undefined;
  const promise = new Promise<void>((resolve) => (open = resolve));
  return { promise, open };
}

function start(settleMs = 10_000) {
  /** What setup, handoff and teardown did. */
  const events: string[] = [];
  const gates: Partial<Record<"setup" | "access", Gate>> = {};
  const version = (n: number, more: Partial<Plugin> = {}): Plugin =>
    definePlugin({
      name: "a",
      version: String(n),
      schema: { type: "object" },
      async setup(_conf, { previous }) {
        events.push(`setup ${n}${previous === undefined ? "" : ` with ${previous as string}`}`);
        await gates.setup?.promise;
        return n;
      },
      handoff: ({ state }) => `what ${String(state)} had`,
      teardown({ state }, { replaced }) {
        events.push(`teardown ${String(state)}${replaced === true ? ", replaced" : ""}`);
      },
      async access(ctx, { state }) {
        await gates.access?.promise;
        ctx.request.headers.set("x-a", String(state));
      },
      ...more,
    } as Plugin);
  let newest = version(1);
  const engine = new Engine({
    loadPlugin: () => Promise.resolve(newest),
    logFor: () => log,
    report: (title, error) => void events.push(`${title}: ${String(error)}`),
    ask: (words) => Promise.resolve(words),
    checkCarried() {},
    stackOf: String,
    settleMs,
  });
  const renew = (plugin: Plugin) => {
    let refused: unknown;
    return engine
      .renew(new Map([["a", plugin]]), (names) => {
        refused = names.get("a");
        if (refused === undefined) newest = plugin;
      })
      .then((tokens) => ({ tokens, refused }));
  };
  const run = async (token: number): Promise<unknown> => {
    const head = encodeHead({
      ...{ phase: PhaseNumber.access, token, requestId: 1, method: "GET", requestUri: "/" },
      ...{ uri: "/", remoteAddress: "127.0.0.1", requestFields: [] },
    });
    const caller = { deadline: Date.now() + 5000, onAbort: undefined };
    const changes: Changes = await engine.run(head, null, null, null, caller);
    return changes?.at(-1);
  };
  return { engine, events, gates, version, renew, run };
}

const MEMBERS = [["a", null]] as const;

describe("a renewal", () => {
  test("has the next token served by the newer plugin, this one by the older until it is released", async () => {
    const { engine, events, version, renew, run } = start();
    await engine.configure(1, MEMBERS);
    assert.deepEqual((await renew(version(2))).tokens, [1]);
    assert.equal(await run(1), "1");
    await engine.configure(2, MEMBERS, 1);
    assert.deepEqual([await run(1), await run(2)], ["1", "2"]);
    await engine.release([1]);
    assert.deepEqual(events, ["setup 1", "setup 2 with what 1 had", "teardown 1, replaced"]);
    assert.deepEqual(engine.kept.chains, 1);
  });

  test("waits with the older one's teardown for what is under way", async () => {
    const { engine, events, gates, version, renew, run } = start();
    gates.access = gate();
    await engine.configure(1, MEMBERS);
    const slow = run(1);
    await renew(version(2));
    await engine.configure(2, MEMBERS, 1);
    const released = engine.release([1]);
    await new Promise(setImmediate);
    assert.deepEqual(events, ["setup 1", "setup 2 with what 1 had"]);
    gates.access.open();
    assert.equal(await slow, "1");
    await released;
    assert.equal(events.at(-1), "teardown 1, replaced");
  });

  test("after another that was not asked for goes on from that one, once", async () => {
    const { engine, events, version, renew, run } = start();
    await engine.configure(1, MEMBERS);
    await renew(version(2));
    const newest = version(3);
    await renew(newest);
    assert.deepEqual((await renew(newest)).tokens, [1], "it is told again");
    await engine.configure(2, MEMBERS, 1);
    assert.equal(await run(2), "3");
    await engine.release([1]);
    assert.deepEqual(events, [
      ...["setup 1", "setup 2 with what 1 had", "setup 3 with what 2 had"],
      ...["teardown 2, replaced", "teardown 1, replaced"],
    ]);
  });

  test("reaches a chain again whose successor was given up", async () => {
    const { engine, version, renew, run } = start();
    await engine.configure(1, MEMBERS);
    await renew(version(2));
    await engine.configure(2, MEMBERS, 1);
    await engine.release([2]);
    assert.deepEqual((await renew(version(3))).tokens, [1]);
    await engine.configure(3, MEMBERS, 1);
    assert.equal(await run(3), "3");
  });

  test("leaves tokens alone of which only requests under way are left", async () => {
    const { engine, events, version, renew } = start();
    await engine.configure(1, MEMBERS);
    for (const n of [2, 3]) {
      assert.deepEqual((await renew(version(n))).tokens, [n - 1]);
      await engine.configure(n, MEMBERS, n - 1);
    }
    await engine.release([2]);
    assert.deepEqual((await renew(version(4))).tokens, [3]);
    assert.ok(!events.some((event) => event === "setup 4 with what 1 had"));
  });

  test("reaches a configuration that is being set up meanwhile", async () => {
    const { engine, events, gates, version, renew, run } = start();
    gates.setup = gate();
    const configured = engine.configure(1, MEMBERS);
    await new Promise(setImmediate);
    await renew(version(2));
    gates.setup.open();
    await configured;
    assert.equal(await run(1), "2");
    assert.deepEqual(events, ["setup 1", "teardown 1", "setup 2"]);
  });

  test("sets up for nothing, and tears down, what a release comes before", async () => {
    const { engine, events, gates, version, renew } = start();
    await engine.configure(1, MEMBERS);
    gates.setup = gate();
    const renewed = renew(version(2));
    await new Promise(setImmediate);
    await engine.release([1]);
    gates.setup.open();
    assert.deepEqual((await renewed).tokens, []);
    assert.deepEqual(events, [
      ...["setup 1", "setup 2 with what 1 had", "teardown 1", "teardown 2"],
    ]);
  });

  test("that is refused for one configuration is refused for all", async () => {
    const { engine, events, version, renew, run } = start();
    await engine.configure(1, [["a", { n: 1 }]]);
    await engine.configure(2, [["a", { n: 2 }]]);
    const fails = version(2, {
      setup(conf: unknown) {
        if ((conf as { n: number }).n === 2) throw new Error("not for two");
        return "2 for one";
      },
    } as Partial<Plugin>);
    const { tokens, refused } = await renew(fails);
    assert.deepEqual(tokens, []);
    assert.match(String(refused), /not for two/);
    assert.deepEqual([await run(1), await run(2)], ["1", "1"]);
    assert.equal(events.at(-1), "teardown 2 for one");
  });
});

describe("what does not settle is given up after its time, with the plugin's name:", () => {
  const never = new Promise<never>(() => undefined);
  const late = (what: string): RegExp => new RegExp(`a ${what} did not settle within 20 ms`);

  test("setup, at the first use; the next use tries again", async () => {
    const { engine, events, version, run, renew } = start(20);
    await renew(version(1, { setup: () => never }));
    await assert.rejects(engine.configure(1, MEMBERS), late("setup"));
    assert.match(events.join(), late("setup"));
    await renew(version(2));
    await engine.configure(1, MEMBERS);
    assert.equal(await run(1), "2");
  });

  test("the check of a configuration", async () => {
    const { engine, version, renew } = start(20);
    const schema = {
      "~standard": { version: 1 as const, vendor: "test", validate: () => never },
    };
    await renew(version(1, { schema }));
    await assert.rejects(engine.configure(1, MEMBERS), late("configuration"));
  });

  for (const what of ["setup", "handoff"] as const) {
    test(`${what}, at a renewal; the version before goes on, and the next renewal works`, async () => {
      const { engine, version, run, renew } = start(20);
      await renew(version(1, what === "handoff" ? { handoff: () => never } : {}));
      await engine.configure(1, MEMBERS);
      const { tokens, refused } = await renew(version(2, { setup: () => never }));
      assert.deepEqual(tokens, []);
      assert.match(String(refused), late(what));
      assert.equal(await run(1), "1");
      if (what === "handoff") return; // it is version 1's, which stays
      assert.deepEqual((await renew(version(3))).tokens, [1]);
    });
  }

  test("teardown, at a renewal and at the end", async () => {
    const { engine, events, version, renew } = start(20);
    await renew(version(1, { teardown: () => never }));
    await engine.configure(1, MEMBERS);
    assert.deepEqual((await renew(version(2, { teardown: () => never }))).tokens, [1]);
    assert.deepEqual((await renew(version(3))).tokens, [1]);
    await engine.configure(2, MEMBERS, 1);
    await engine.release([1]);
    const given = events.filter((event) => late("teardown").test(event));
    assert.equal(given.length, 2);
  });

  test("what a setup comes to after that is torn down, and what it fails with is logged", async () => {
    const { engine, events, gates, version, renew } = start(20);
    gates.setup = gate();
    await assert.rejects(engine.configure(1, MEMBERS), late("setup"));
    gates.setup.open();
    await new Promise(setImmediate);
    assert.equal(events.at(-1), "teardown 1");
    const failing = gate();
    await renew(
      version(2, {
        setup: async () => {
          await failing.promise;
          throw new Error("too late");
        },
      }),
    );
    await assert.rejects(engine.configure(1, MEMBERS), late("setup"));
    failing.open();
    await new Promise(setImmediate);
    assert.match(events.at(-1)!, /^a setup \(given up\): Error: too late/);
    assert.equal(engine.kept.chains, 0);
  });
});
