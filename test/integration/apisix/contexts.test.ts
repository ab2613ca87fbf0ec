/**
 * Contexts of plugins whose configurations APISIX hands out in other tables: references to secrets
 * whose values change, and several configurations in one place.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type Apisix, onlyStandIn } from "../../support/apisix.js";
import { runtimeOf } from "../../support/apisix-hooks.js";
import { type TypescriptOptions, withTypescript } from "../../support/apisix-plugins.js";
import { until } from "../../support/deadline.js";

const LIVES = `
  let setups = 0;
  export default definePlugin({
    name: "lives",
    schema: Type.Object({ word: Type.String() }),
    setup: () => ++setups,
    teardown: ({ conf }, { log }) => log.warn("end of " + conf.word),
    access: (ctx, { conf, state }) => ctx.exit(200, conf.word + state),
  });`;

/**
 * Has each request served with a copy of the route's configuration that has the request's x-word
 * for `word`, as APISIX does with references. There is one copy for a word until it is told to drop
 * it. `sweep` collects garbage first, as Lua does by itself in its time.
 */
const REFERENCES = `
local core = require "apisix.core"
local contexts = require "resty.ts.apisix.contexts"
local _M = { version = 0.1, priority = 3000, name = "references", schema = { type = "object" } }
local copies = {}

function _M.check_schema()
    return true
end

local function copy_of(conf, word)
    local copy = copies[word]
    if not copy then
        copy = core.table.deepcopy(conf)
        copy.word = word
        copies[word] = copy
    end
    return copy
end

function _M.rewrite(_, ctx)
    local plugins = ctx.plugins
    for i = 1, #plugins, 2 do
        if plugins[i].name == "lives" then
            plugins[i + 1] = copy_of(plugins[i + 1], core.request.header(ctx, "x-word"))
        end
    end
end

function _M.control_api()
    return { {
        methods = { "PUT" }, uris = { "/v1/plugin/references/drop/*" },
        handler = function()
            copies[ngx.var.uri:match("([^/]*)$")] = nil
            return 200, "dropped"
        end,
    }, {
        methods = { "PUT" }, uris = { "/v1/plugin/references/sweep" },
        handler = function()
            collectgarbage()
            collectgarbage()
            contexts.sweep()
            return 200, "swept"
        end,
    } }
end

return _M
`;

const put = async (a: Apisix, what: string): Promise<void> => {
  const { status, text } = await a.control(`/v1/plugin/references/${what}`, { method: "PUT" });
  assert.equal(status, 200, text);
};

const countOf = async (a: Apisix): Promise<number | undefined> =>
  (await runtimeOf(a)).contexts[0]?.contexts;

describe("a configuration that APISIX makes anew in the same version", () => {
  const withReferences = (body: (a: Apisix) => Promise<void>): Promise<void> =>
    withTypescript(
      {
        typescript: { lives: LIVES },
        plugins: ["references"],
        lua: { references: REFERENCES },
        routes: [{ uri: "/a", plugins: { references: {}, lives: { word: "$secret://x" } } }],
      },
      body,
    );
  const ask = async (a: Apisix, word: string): Promise<string> =>
    (await a.ask("/a", { headers: { "x-word": word } })).text;

  it("is torn down once APISIX has let go of it and another is in use", () =>
    withReferences(async (a) => {
      assert.equal(await ask(a, "old"), "old1");
      await put(a, "sweep");
      await put(a, "drop/old");
      await put(a, "sweep");
      assert.equal(await countOf(a), 1, "while there is no other");
      assert.equal(await ask(a, "new"), "new2");
      await put(a, "sweep");
      await a.untilLog(/end of old/);
      assert.equal(await countOf(a), 1);
      assert.equal(await ask(a, "new"), "new2");
      assert.doesNotMatch(a.errorLog(), /end of new/);
    }));

  it("comes back when it is used again", () =>
    withReferences(async (a) => {
      assert.equal(await ask(a, "old"), "old1");
      await put(a, "sweep");
      await put(a, "drop/old");
      assert.equal(await ask(a, "new"), "new2");
      await put(a, "sweep");
      await a.untilLog(/end of old/);
      assert.equal(await ask(a, "old"), "old3");
      assert.equal(await ask(a, "new"), "new2");
    }));

  it("stays while APISIX has it, however seldom it is used", () =>
    withReferences(async (a) => {
      assert.equal(await ask(a, "seldom"), "seldom1");
      for (let i = 0; i < 5; i++) {
        assert.equal(await ask(a, "often"), "often2");
        await put(a, "sweep");
      }
      assert.equal(await ask(a, "seldom"), "seldom1");
      assert.equal(await countOf(a), 2);
    }));
});

describe("resources that follow changes one by one", () => {
  const options: TypescriptOptions = {
    typescript: { lives: LIVES },
    provider: "etcd",
    routes: [
      { id: "a", uri: "/a", plugins: { lives: { word: "a" } } },
      { id: "b", uri: "/b", plugins: { lives: { word: "b" } } },
    ],
  };

  it("only what is changed is set up again, and torn down", onlyStandIn, () =>
    withTypescript(options, async (a) => {
      assert.deepEqual([(await a.ask("/a")).text, (await a.ask("/b")).text], ["a1", "b2"]);
      const versions = async () => {
        const { contexts } = await runtimeOf(a);
        return Object.fromEntries(contexts.map(({ resource, version }) => [resource, version]));
      };
      const before = await versions();
      await a.change({
        routes: [
          { id: "a", uri: "/a", plugins: { lives: { word: "a" } } },
          { id: "b", uri: "/b", plugins: { lives: { word: "c" } } },
        ],
      });
      assert.deepEqual([(await a.ask("/a")).text, (await a.ask("/b")).text], ["a1", "c3"]);
      await a.untilLog(/end of b/);
      assert.doesNotMatch(a.errorLog(), /end of a/);
      const after = await versions();
      assert.equal(after["/routes/a"], before["/routes/a"]);
      assert.notEqual(after["/routes/b"], before["/routes/b"]);
    }),
  );

  it("one that goes takes its context with it, and leaves the others", onlyStandIn, () =>
    withTypescript(options, async (a) => {
      assert.deepEqual([(await a.ask("/a")).text, (await a.ask("/b")).text], ["a1", "b2"]);
      await a.change({ routes: [{ id: "a", uri: "/a", plugins: { lives: { word: "a" } } }] });
      await until("the teardown", () => /end of b/.test(a.errorLog()), 30_000);
      assert.equal((await a.ask("/a")).text, "a1");
      assert.deepEqual(
        (await runtimeOf(a)).contexts.map(({ resource }) => resource),
        ["/routes/a"],
      );
    }),
  );
});
