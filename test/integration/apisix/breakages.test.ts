/**
 * What breaks APISIX's own runners does no harm here: what a plugin or a configuration does wrong
 * is its own request's, and what goes through comes out as it went in.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { describe, it } from "node:test";
import type { Apisix } from "../../support/apisix.js";
import { hookRoute, rewrites, runtimeOf, withHooks } from "../../support/apisix-hooks.js";
import { until } from "../../support/deadline.js";
import type { Seen } from "../../support/gateway.js";

const passes = rewrites("passes", `request.headers.set("x-seen", "yes");`);

async function serves(a: Apisix, path = "/ok"): Promise<void> {
  const reply = await a.ask(path);
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.json<Seen>().headers["x-seen"], "yes");
}

const OK = hookRoute("/ok", "pre-req", [["passes", {}]]);

describe("a fault stays its own", () => {
  /** The bad route answers 503 again and again, the good one serves, in one and the same life. */
  const stays = (title: string, sources: Record<string, string>, value: unknown, log: RegExp) =>
    it(title, () =>
      withHooks(
        { passes, ...sources },
        { routes: [OK, hookRoute("/bad", "pre-req", [["bad", value]])], allowLog: [log] },
        async (a) => {
          await serves(a);
          const before = await runtimeOf(a);
          for (let i = 0; i < 3; i++) {
            assert.equal((await a.ask("/bad")).status, 503);
            await serves(a);
          }
          const after = await runtimeOf(a);
          assert.equal(after.state, "ready");
          assert.equal(after.runtime?.lives, before.runtime?.lives);
          assert.match(a.errorLog(), log);
        },
      ),
    );

  void stays(
    "a throw in a handler",
    { bad: rewrites("bad", `throw new Error("on purpose");`) },
    {},
    /bad, .*on purpose/,
  );
  void stays(
    "a rejection in a handler",
    { bad: rewrites("bad", `await Promise.reject(new Error("on purpose"));`) },
    {},
    /bad, .*on purpose/,
  );
  void stays(
    "a throw in setup",
    {
      bad: `export default definePlugin({
        name: "bad", setup() { throw new Error("on purpose"); }, rewrite() {} });`,
    },
    {},
    /bad.*on purpose/,
  );
  void stays(
    "a value that is not JSON",
    { bad: rewrites("bad", "") },
    "{ not: json }",
    /bad: the value is not JSON/,
  );
  void stays(
    "a value of another type than the schema's",
    { bad: rewrites("bad", "") },
    [1, 2],
    /bad/,
  );

  it("a rejection that nobody handles", () =>
    withHooks(
      {
        passes,
        careless: rewrites("careless", `void Promise.reject(new Error("on purpose"));`),
      },
      {
        routes: [OK, hookRoute("/careless", "pre-req", [["careless", {}]])],
        allowLog: [/on purpose/],
      },
      async (a) => {
        assert.equal((await a.ask("/careless")).status, 200);
        await a.untilLog(/unhandled rejection: .*on purpose/);
        await serves(a);
      },
    ));
});

describe("configurations come and go", () => {
  it("one that APISIX's caches have let go of is the same context when it is used again", () =>
    withHooks({ passes }, { routes: [OK] }, async (a) => {
      for (let i = 0; i < 5; i++) {
        await serves(a);
        await a.forget();
      }
      const { contexts } = await runtimeOf(a);
      assert.deepEqual(
        contexts.map(({ plugin, contexts: count }) => [plugin, count]),
        [["ts-plugin-pre-req", 1]],
      );
    }));

  it("one that is changed takes effect with the next request, and the old one is torn down", () =>
    withHooks(
      {
        lives: `
          export default definePlugin({
            name: "lives",
            schema: Type.Object({ word: Type.String() }),
            setup: ({ word }, { log }) => log.warn("begin of " + word),
            teardown: ({ conf }, { log }) => log.warn("end of " + conf.word),
            rewrite: (ctx, { conf }) => ctx.exit(200, conf.word),
          });`,
      },
      { routes: [hookRoute("/a", "pre-req", [["lives", { word: "w0" }]])] },
      async (a) => {
        assert.equal((await a.ask("/a")).text, "w0");
        for (let i = 1; i <= 5; i++) {
          const word = `w${String(i)}`;
          await a.change({ routes: [hookRoute("/a", "pre-req", [["lives", { word }]])] });
          assert.equal((await a.ask("/a")).text, word);
          await a.untilLog(new RegExp(`end of w${String(i - 1)}`));
        }
        assert.doesNotMatch(a.errorLog(), /end of w5/);
        assert.equal((await runtimeOf(a)).contexts[0]?.contexts, 1);
      },
    ));

  it("one that is the same in a new version is not set up again", () =>
    withHooks(
      {
        once: `
          let setups = 0;
          export default definePlugin({
            name: "once", setup: () => ++setups,
            rewrite: (ctx, { state }) => ctx.exit(200, String(state)),
          });`,
      },
      { routes: [hookRoute("/a", "pre-req", [["once", {}]])] },
      async (a) => {
        assert.equal((await a.ask("/a")).text, "1");
        await a.change({
          routes: [hookRoute("/a", "pre-req", [["once", {}]]), { id: "other", uri: "/other" }],
        });
        assert.equal((await a.ask("/a")).text, "1");
      },
    ));
});

describe("what goes through comes out as it went in", () => {
  const through = (
    title: string,
    path: string,
    request: Parameters<Apisix["ask"]>[1],
    check: (seen: Seen) => void,
  ): void => {
    for (const hook of ["pre-req", "post-req"] as const) {
      it(`${title}, ${hook}`, () =>
        withHooks({ passes }, { routes: [hookRoute("/*", hook, [["passes", {}]])] }, async (a) => {
          const reply = await a.ask(path, request);
          assert.equal(reply.status, 200, reply.text);
          const seen = reply.json<Seen>();
          assert.equal(seen.headers["x-seen"], "yes");
          check(seen);
        }));
    }
  };

  through(
    "repeated header fields",
    "/a",
    { headers: { "x-many": ["1", "2", "1"] } },
    ({ headers }) => assert.equal(headers["x-many"], "1, 2, 1"),
  );
  through("cookies", "/a", { headers: { cookie: ["a=1; b=2", "c=3"] } }, ({ headers }) =>
    assert.equal(headers.cookie, "a=1; b=2; c=3"),
  );
  through("repeated arguments", "/a?x=1&x=2&x=1", {}, ({ url }) =>
    assert.equal(url, "/a?x=1&x=2&x=1"),
  );
  through("an argument without a value, and an empty one", "/a?a&b=&c", {}, ({ url }) =>
    assert.equal(url, "/a?a&b=&c"),
  );
  through("an escaped slash, in path and arguments", "/a%2Fb/c?d=%2F%20+", {}, ({ url }) =>
    assert.equal(url, "/a%2Fb/c?d=%2F%20+"),
  );

  it("a binary body, to the upstream and back", () =>
    withHooks(
      {
        passes,
        both: `export default definePlugin({
          name: "both", bufferResponse: { maxBytes: 1 << 20 },
          bodyFilter: (ctx) => Buffer.concat([ctx.chunk, Buffer.from([0, 255, 128])]) });`,
        body: rewrites(
          "body",
          `request.setBody(Buffer.concat([await request.bytes(), Buffer.from([0, 255])]));`,
        ),
      },
      {
        routes: [
          {
            uri: "/a",
            plugins: {
              "ts-plugin-pre-req": { conf: [{ name: "body", value: "{}" }] },
              "ts-plugin-post-resp": { conf: [{ name: "both", value: "{}" }] },
            },
          },
        ],
      },
      async (a) => {
        let got: Buffer | undefined;
        a.upstream.on("/a", (_request, response, body) => {
          got = body;
          response.end(body);
        });
        const body = Buffer.concat([Buffer.from([0, 1, 254, 255, 10, 13]), randomBytes(100_000)]);
        const reply = await a.ask("/a", { method: "POST", body });
        assert.deepEqual(got, Buffer.concat([body, Buffer.from([0, 255])]));
        assert.deepEqual(reply.body, Buffer.concat([body, Buffer.from([0, 255, 0, 255, 128])]));
      },
    ));

  it("header fields that are deleted are gone", () =>
    withHooks(
      {
        drops: rewrites(
          "drops",
          `request.headers.delete("x-many"); request.headers.delete("cookie");`,
        ),
      },
      { routes: [hookRoute("/a", "post-req", [["drops", {}]])] },
      async (a) => {
        const reply = await a.ask("/a", {
          headers: { "x-many": ["1", "2"], cookie: "a=1", "x-kept": "yes" },
        });
        const { headers } = reply.json<Seen>();
        assert.deepEqual(
          [headers["x-many"], headers.cookie, headers["x-kept"]],
          [undefined, undefined, "yes"],
        );
      },
    ));
});

describe("handlers that do not come back", () => {
  it("one that hangs is given up at its deadline, and holds up nobody", () =>
    withHooks(
      { passes, hangs: rewrites("hangs", "await new Promise(() => undefined);") },
      {
        routes: [OK, hookRoute("/hangs", "pre-req", [["hangs", {}]])],
        pluginAttr: { "resty-ts": { timeout_ms: 1000 } },
        allowLog: [/hangs, /],
      },
      async (a) => {
        const hanging = Promise.all(Array.from({ length: 20 }, () => a.ask("/hangs")));
        await until(
          "20 calls hang",
          async () => ((await runtimeOf(a)).runtime?.pending ?? 0) >= 20,
        );
        await serves(a);
        for (const { status } of await hanging) assert.equal(status, 503);
        await serves(a);
      },
    ));

  it("one that spins ends its environment, and the next one serves", () =>
    withHooks(
      { passes, spins: rewrites("spins", "for (;;);") },
      {
        routes: [OK, hookRoute("/spins", "pre-req", [["spins", {}]])],
        pluginAttr: { "resty-ts": { timeout_ms: 1000, stall_ms: 300 } },
        allowLog: [/spins, /, /stalled/],
      },
      async (a) => {
        await serves(a);
        const spinning = a.ask("/spins");
        assert.equal((await spinning).status, 503);
        // Not a new nginx worker: its environment.
        await until("the next environment", async () => {
          const { state, runtime } = await runtimeOf(a);
          return state === "ready" && (runtime?.stalled ?? 0) === 1;
        });
        await serves(a);
      },
    ));

  /** A hook on responses, with deadlines that are soon over, beside a route that must go on. */
  const withResponses = (
    code: string,
    settings: Record<string, number | boolean>,
    log: RegExp,
    body: (a: Apisix) => Promise<void>,
  ): Promise<void> =>
    withHooks(
      {
        passes,
        bad: `export default definePlugin({ name: "bad", headerFilter() { ${code} } });`,
      },
      {
        routes: [
          OK,
          { id: "bad", ...hookRoute("/bad", "post-resp", [["bad", {}]]) },
          {
            id: "open",
            ...hookRoute("/open", "post-resp", [["bad", {}]], { allow_degradation: true }),
          },
        ],
        pluginAttr: { "resty-ts": { sync_timeout_ms: 300, stall_ms: 60_000, ...settings } },
        allowLog: [log],
      },
      body,
    );

  it("one that would wait in a filter is told that nothing can, and holds up nobody", () =>
    withResponses(
      "return new Promise(() => undefined);",
      { sync_timeout_ms: 10_000 },
      /bad, header_filter/,
      async (a) => {
        await serves(a);
        assert.equal((await a.ask("/bad")).status, 503);
        assert.equal((await a.ask("/open")).status, 200);
        await serves(a);
        assert.match(a.errorLog(), /bad, header_filter, .*headerFilter/);
        assert.equal((await runtimeOf(a)).runtime?.lives, 1);
      },
    ));

  it("one that blocks in a filter is given up at the filters' deadline, and lives on", () =>
    withResponses(
      "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_000);",
      {},
      /bad, header_filter, .*timeout/,
      async (a) => {
        await serves(a);
        assert.equal((await a.ask("/bad")).status, 503);
        await serves(a);
        const { status, text } = await a.ask("/open");
        assert.deepEqual([status, (JSON.parse(text) as Seen).url], [200, "/open"]);
        await serves(a);
        assert.equal((await runtimeOf(a)).runtime?.lives, 1);
      },
    ));

  it("one that spins in a filter ends its environment, and the next one serves", () =>
    withResponses(
      "for (;;);",
      { stall_ms: 500, sync_inline: false },
      /bad, header_filter, |stalled/,
      async (a) => {
        for (const [path, expected] of [
          ["/bad", 503],
          ["/open", 200],
        ] as const) {
          await serves(a);
          const { stalled = 0 } = (await runtimeOf(a)).runtime ?? {};
          assert.equal((await a.ask(path)).status, expected);
          await until("the next environment", async () => {
            const { state, runtime } = await runtimeOf(a);
            return state === "ready" && (runtime?.stalled ?? 0) === stalled + 1;
          });
        }
        await serves(a);
      },
    ));
});
