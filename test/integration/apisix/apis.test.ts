/** What a TypeScript plugin has once in a worker: init, destroy, and routes of APISIX's APIs. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type TypescriptOptions, withTypescript } from "../../support/apisix-plugins.js";
import { until } from "../../support/deadline.js";

const counts = `
  export default definePlugin({
    name: "counts",
    apisix: {
      init: ({ log }) => { log.warn("init ran"); return { calls: 0 }; },
      destroy: (state, { log }) => log.warn("destroy ran after " + state.calls),
      api: [{
        methods: ["POST"], uris: ["/apisix/plugin/counts"],
        async handler(ctx, state) {
          state.calls += 1;
          const { word } = await ctx.request.json();
          return ctx.exit(201, { calls: state.calls, word, apisix: ctx.apisix !== undefined });
        },
      }],
      controlApi: [
        { methods: ["GET"], uris: ["/v1/plugin/counts"],
          handler: (_ctx, { calls }) => Response.json({ calls }) },
        { methods: ["GET"], uris: ["/v1/plugin/counts/*"],
          handler: (ctx) => ctx.exit(404, { path: ctx.request.path }) },
      ],
    },
  });`;

const options: TypescriptOptions = {
  typescript: { counts },
  plugins: ["public-api"],
  routes: [{ uri: "/apisix/plugin/counts", plugins: { "public-api": {} } }],
};

describe("apis", () => {
  it("the public API is served on a route of public-api, the control API on its own server", () =>
    withTypescript(options, async (a) => {
      const post = (word: string) =>
        a.ask("/apisix/plugin/counts", { method: "POST", body: JSON.stringify({ word }) });
      const first = await post("one");
      assert.equal(first.status, 201);
      assert.deepEqual(first.json(), { calls: 1, word: "one", apisix: true });
      assert.equal((await post("two")).json().calls, 2);
      assert.equal((await a.ask("/apisix/plugin/counts")).status, 404, "no GET");
      const { status, text } = await a.control("/v1/plugin/counts");
      assert.deepEqual([status, JSON.parse(text)], [200, { calls: 2 }]);
      const other = await a.control("/v1/plugin/counts/of/ada");
      assert.deepEqual([other.status, other.json()], [404, { path: "/v1/plugin/counts/of/ada" }]);
    }));

  it("init runs once before the first route, destroy when APISIX lets go of the plugin", () =>
    withTypescript(options, async (a) => {
      assert.equal((await a.control("/v1/plugin/counts")).status, 200);
      assert.equal(a.errorLog().match(/init ran/g)?.length, 1);
      await a.reloadPlugins(["resty-ts", "public-api"]);
      await a.untilLog(/destroy ran after 0/);
      assert.equal((await a.control("/v1/plugin/counts")).status, 404);
    }));

  it("plugin hot reload begins anew: destroy, then init", () =>
    withTypescript(options, async (a) => {
      await a.ask("/apisix/plugin/counts", { method: "POST", body: `{"word":"x"}` });
      await a.reloadPlugins();
      await a.untilLog(/destroy ran after 1/);
      await until("the second init", () => a.errorLog().match(/init ran/g)?.length === 2);
      assert.deepEqual((await a.control("/v1/plugin/counts")).json(), { calls: 0 });
    }));
});

describe("the control API of the runtime", () => {
  it("tells its state, plugins, contexts and counters", () =>
    withTypescript(
      {
        typescript: {
          fine: `export default definePlugin({ name: "fine", access() {} });`,
        },
        routes: [{ uri: "/a", plugins: { fine: {} } }],
      },
      async (a) => {
        assert.equal((await a.ask("/a")).status, 200);
        const { status, text } = await a.control("/v1/plugin/resty-ts");
        const report = JSON.parse(text) as Record<string, unknown>;
        assert.equal(status, 200);
        assert.equal(report.state, "ready");
        assert.deepEqual(report.plugins, ["fine", "resty-ts"]);
        assert.match(JSON.stringify(report.contexts), /"plugin":"fine"/);
        assert.equal(typeof (report.runtime as { calls: number }).calls, "number");
      },
    ));
});
