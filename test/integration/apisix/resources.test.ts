/** TypeScript plugins and APISIX's resources: _meta, checks, consumers, metadata, plugin configs. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { Apisix, PluginConfs } from "../../support/apisix.js";
import { type TypescriptOptions, withTypescript } from "../../support/apisix-plugins.js";
import type { Seen } from "../../support/gateway.js";

const named = (name: string, priority: number): string => `
  export default definePlugin({
    name: "${name}", version: "1.2.3", priority: ${priority},
    schema: Type.Object({
      word: Type.String({ minLength: 2 }),
      status: Type.Optional(Type.Integer({ minimum: 200, maximum: 599 })),
      list: Type.Array(Type.String(), { default: ["a"] }),
    }, { additionalProperties: false }),
    access(ctx, { conf }) {
      ctx.request.headers.append("x-order", "${name} " + conf.word + " " + conf.list);
      if (conf.status !== undefined) return ctx.exit(conf.status, "the plugin's own words");
    },
  });`;

const withTwo = (
  options: TypescriptOptions,
  body: (apisix: Apisix) => Promise<void>,
): Promise<void> =>
  withTypescript(
    { typescript: { high: named("high", 200), low: named("low", 100) }, ...options },
    body,
  );

const orderOf = async (a: Apisix, path: string): Promise<string | undefined> => {
  const reply = await a.ask(path);
  assert.equal(reply.status, 200, reply.text);
  return reply.json<Seen>().headers["x-order"];
};

describe("_meta", () => {
  const both = (high: object, low: object = {}): PluginConfs => ({
    high: { word: "hi", _meta: { ...high } },
    low: { word: "lo", _meta: { ...low } },
  });

  it("disable, priority and filter work as for any plugin", () =>
    withTwo(
      {
        routes: [
          { uri: "/plain", plugins: both({}) },
          { uri: "/disabled", plugins: both({ disable: true }) },
          { uri: "/moved", plugins: both({ priority: 1 }) },
          { uri: "/filtered", plugins: both({ filter: [["arg_x", "==", "1"]] }) },
        ],
      },
      async (a) => {
        assert.equal(await orderOf(a, "/plain"), "high hi a, low lo a");
        assert.equal(await orderOf(a, "/disabled"), "low lo a");
        assert.equal(await orderOf(a, "/moved"), "low lo a, high hi a");
        assert.equal(await orderOf(a, "/filtered?x=1"), "high hi a, low lo a");
        assert.equal(await orderOf(a, "/filtered?x=2"), "low lo a");
      },
    ));

  it("error_response is the body of a refusal, and no answer below 400 has it", () =>
    withTwo(
      {
        routes: [401, 200].map((status) => ({
          id: String(status),
          uri: `/${String(status)}`,
          plugins: {
            high: { word: "hi", status, _meta: { error_response: { message: "not here" } } },
          },
        })),
      },
      async (a) => {
        const refused = await a.ask("/401");
        assert.equal(refused.status, 401);
        assert.deepEqual(refused.json(), { message: "not here" });
        const fine = await a.ask("/200");
        assert.deepEqual([fine.status, fine.text], [200, "the plugin's own words"]);
      },
    ));
});

describe("check_schema", () => {
  const refused = (conf: PluginConfs[string], message: string): Promise<void> =>
    withTwo(
      {
        routes: [
          { id: "bad", uri: "/bad", plugins: { high: conf } },
          { id: "good", uri: "/good", plugins: { low: { word: "lo" } } },
        ],
        allowLog: [/failed to check item data of \[routes\]/],
      },
      async (a) => {
        assert.equal((await a.ask("/bad")).status, 404);
        const prefix = "failed to check the configuration of plugin high err: ";
        assert.ok(a.errorLog().includes(prefix + message), a.errorLog());
        // Others are there.
        assert.equal(await orderOf(a, "/good"), "low lo a");
      },
    );

  it("says what is missing", () => refused({}, 'property "word" is required'));
  it("says what is of a wrong type", () =>
    refused(
      { word: 5 },
      'property "word" validation failed: wrong type: expected string, got number',
    ));
  it("says what is too short", () =>
    refused(
      { word: "x" },
      'property "word" validation failed: string too short, expected at least 2, got 1',
    ));
  it("says what is too large", () =>
    refused(
      { word: "xx", status: 700 },
      'property "status" validation failed: expected 700 to be at most 599',
    ));
  it("says what is not known", () =>
    refused({ word: "xx", other: 1 }, "additional properties forbidden, found other"));
});

describe("what APISIX keeps in a configuration for itself", () => {
  it("no plugin is given: the version that plugins can have it note there", () =>
    withTwo(
      {
        plugins: ["versions"],
        lua: { versions: VERSIONS },
        routes: [{ uri: "/a", plugins: { versions: {}, high: { word: "hi" } } }],
      },
      async (a) => {
        const { headers } = (await a.ask("/a")).json<Seen>();
        assert.match(headers["x-version"] ?? "", /^\d+$/);
        assert.equal(headers["x-order"], "high hi a");
      },
    ));
});

/** Has APISIX note the version of what `high` has at the route. */
const VERSIONS = `
local core = require "apisix.core"
local plugin = require "apisix.plugin"
local _M = { version = 0.1, priority = 3000, name = "versions", schema = { type = "object" } }
function _M.check_schema()
    return true
end
function _M.rewrite(_, ctx)
    local conf = ctx.matched_route.value.plugins.high
    core.request.set_header(ctx, "x-version", plugin.conf_version(conf))
end
return _M
`;

describe("consumers", () => {
  const gate = `
    export default definePlugin({
      name: "gate", priority: 2500,
      schema: Type.Object({ header: Type.String({ default: "x-key" }) }),
      apisix: {
        type: "auth",
        consumerSchema: Type.Object({ key: Type.String() }),
        encryptFields: ["key"],
      },
      async rewrite(ctx, { conf }) {
        const key = ctx.request.headers.get(conf.header);
        const consumer = key === null ? null : await ctx.apisix.findConsumer("key", key);
        if (consumer === null) return ctx.exit(401, { message: "who are you?" });
        ctx.request.headers.set("x-consumer", JSON.stringify(consumer));
        ctx.apisix.attachConsumer(consumer);
      },
      access(ctx) { ctx.request.headers.append("x-order", "gate"); },
    });`;
  const options: TypescriptOptions = {
    typescript: { gate, high: named("high", 200), low: named("low", 100) },
    consumers: [
      {
        username: "jack",
        labels: { custom_id: "7", team: "red" },
        plugins: { gate: { key: "jacks" }, low: { word: "jack" } },
      },
      { username: "rose", group_id: "g", plugins: { gate: { key: "roses" } } },
    ],
    consumerGroups: [{ id: "g", plugins: { low: { word: "group" } } }],
    routes: [{ uri: "/a", plugins: { gate: {}, high: { word: "route" } } }],
  };

  it("a plugin of type auth finds the consumer, whose own plugins then run", () =>
    withTypescript(options, async (a) => {
      const ask = (key: string) => a.ask("/a", { headers: { "x-key": key } });
      const jack = (await ask("jacks")).json<Seen>().headers;
      assert.equal(jack["x-consumer-username"], "jack");
      assert.equal(jack["x-consumer-custom-id"], "7");
      const { conf, ...consumer } = JSON.parse(jack["x-consumer"] ?? "") as { conf: object };
      assert.deepEqual(conf, { key: "jacks" }, "and nothing of APISIX's own");
      assert.deepEqual(consumer, {
        name: "jack",
        username: "jack",
        labels: { custom_id: "7", team: "red" },
        customId: "7",
      });
      assert.equal(jack["x-order"], "gate, high route a, low jack a");
      const rose = (await ask("roses")).json<Seen>().headers;
      assert.equal(rose["x-consumer-username"], "rose");
      assert.equal(rose["x-order"], "gate, high route a, low group a");
      assert.equal((await ask("nobodys")).status, 401);
      assert.equal((await a.ask("/a")).status, 401);
    }));

  it("a consumer whose configuration the consumer schema refuses is not there", () =>
    withTypescript(
      {
        ...options,
        consumers: [{ username: "jack", plugins: { gate: { key: 5 } } }],
        consumerGroups: [],
        allowLog: [/failed to check item data of \[consumers\]/],
      },
      async (a) => {
        assert.equal((await a.ask("/a", { headers: { "x-key": "jacks" } })).status, 401);
        const message = 'gate err: property "key" validation failed: wrong type';
        assert.ok(a.errorLog().includes(message), a.errorLog());
      },
    ));

  it("a consumer that is changed is another one with the next request", () =>
    withTypescript(options, async (a) => {
      const statusOf = async (key: string): Promise<number> =>
        (await a.ask("/a", { headers: { "x-key": key } })).status;
      assert.equal(await statusOf("jacks"), 200);
      await a.change({ consumers: [{ username: "jack", plugins: { gate: { key: "new" } } }] });
      assert.deepEqual([await statusOf("jacks"), await statusOf("new")], [401, 200]);
    }));
});

describe("plugin metadata", () => {
  const tells = `
    export default definePlugin({
      name: "tells",
      apisix: { metadataSchema: Type.Object({ realm: Type.String({ default: "none" }) }) },
      setup: (conf, { log }) => log.warn("a setup"),
      access: (ctx, { metadata }) => ctx.exit(200, { metadata: metadata ?? null }),
    });`;
  const options: TypescriptOptions = {
    typescript: { tells },
    routes: [{ uri: "/a", plugins: { tells: {} } }],
  };
  const realmOf = async (a: Apisix): Promise<string | undefined> =>
    (await a.ask("/a")).json<{ metadata: { realm: string } | null }>().metadata?.realm;

  it("is given to the handlers, and its change with the next request", () =>
    withTypescript(options, async (a) => {
      assert.equal(await realmOf(a), undefined);
      await a.change({ pluginMetadata: { tells: { realm: "one" } } });
      assert.equal(await realmOf(a), "one");
      await a.change({ pluginMetadata: { tells: {} } });
      assert.equal(await realmOf(a), "none");
      await a.change({ pluginMetadata: {} });
      assert.equal(await realmOf(a), undefined);
    }));

  it("has nothing in it that APISIX keeps there for itself", () =>
    withTypescript(
      {
        ...options,
        typescript: {
          tells: tells.replace("})", "}, { additionalProperties: false })"),
        },
        pluginMetadata: {
          tells: { realm: "one", create_time: 1700000000, update_time: 1700000001 },
        },
      },
      async (a) => assert.deepEqual((await a.ask("/a")).json(), { metadata: { realm: "one" } }),
    ));

  it("has what its schema names, whatever APISIX uses the name for", () =>
    withTypescript(
      {
        ...options,
        typescript: {
          tells: tells.replace("Type.Object({", "Type.Object({ update_time: Type.Integer(),"),
        },
        pluginMetadata: { tells: { realm: "one", update_time: 5 } },
      },
      async (a) =>
        assert.deepEqual((await a.ask("/a")).json(), {
          metadata: { realm: "one", update_time: 5 },
        }),
    ));

  it("that its schema refuses is not taken", () =>
    withTypescript(
      {
        ...options,
        pluginMetadata: { tells: { realm: 5 } },
        allowLog: [/failed to check item data of \[plugin_metadata\]/],
      },
      async (a) => {
        assert.equal(await realmOf(a), undefined);
        assert.match(a.errorLog(), /property "realm" validation failed: wrong type/);
      },
    ));
});

describe("plugin configs and services", () => {
  it("are contexts of their own, which a route's configuration takes the place of", () =>
    withTwo(
      {
        services: [{ id: "s", plugins: { low: { word: "service" } } }],
        pluginConfigs: [
          { id: "p", plugins: { high: { word: "config" }, low: { word: "config" } } },
        ],
        routes: [
          { id: "1", uri: "/service", service_id: "s", plugins: { high: { word: "route" } } },
          { id: "2", uri: "/config", plugin_config_id: "p" },
          { id: "3", uri: "/both", plugin_config_id: "p", plugins: { low: { word: "route" } } },
        ],
      },
      async (a) => {
        assert.equal(await orderOf(a, "/service"), "high route a, low service a");
        assert.equal(await orderOf(a, "/config"), "high config a, low config a");
        assert.equal(await orderOf(a, "/both"), "high config a, low route a");
      },
    ));
});

describe("encrypted fields and schemas", () => {
  it("are known to the control API, as APISIX has them", () =>
    withTwo({}, async (a) => {
      const { plugins } = (await a.control("/v1/schema")).json<{
        plugins: Record<string, { version: string; priority: number; schema: object }>;
      }>();
      const { version, priority, schema } = plugins.high ?? {};
      assert.deepEqual([version, priority], ["1.2.3", 200]);
      assert.ok("properties" in (schema ?? {}));
    }));
});
