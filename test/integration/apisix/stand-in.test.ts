/**
 * The stand-in behaves as APISIX: plugins in Lua tell what it does with them. With RTS_APISIX set
 * the same runs against a real one.
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type ApisixOptions, withApisix } from "../../support/apisix.js";
import { type Note, notesDuring, notesOf, probe } from "../../support/apisix-probes.js";

const words = (notes: Note[]): string[] =>
  notes.map(({ plugin, phase, conf }) => `${plugin} ${phase} ${conf}`);

const one = (options: Omit<ApisixOptions, "plugins">): ApisixOptions => ({
  plugins: ["probe"],
  lua: { probe: probe("probe", 100) },
  ...options,
});

const two = (options: Omit<ApisixOptions, "plugins">): ApisixOptions => ({
  plugins: ["second", "first"],
  lua: { first: probe("first", 2000), second: probe("second", 1000) },
  ...options,
});

describe("phases", () => {
  it("a plugin of a route runs in all phases, in APISIX's order", () =>
    withApisix(one({ routes: [{ uri: "/a", plugins: { probe: { name: "r1" } } }] }), async (a) => {
      const notes = await notesDuring(a, "probe", 1, async () => {
        const { status, headers } = await a.ask("/a");
        assert.equal(status, 200);
        assert.equal(headers.server, "APISIX/3.18.0");
      });
      assert.deepEqual(words(notes), [
        "probe rewrite r1",
        "probe access r1",
        "probe before_proxy r1",
        "probe header_filter r1",
        "probe body_filter r1",
        "probe delayed_body_filter r1",
        "probe log r1",
      ]);
      assert.ok(notes.every(({ type, id }) => type === "route" && id === "1"));
    }));

  it("plugins run by priority, global rules before and between the route's phases", () =>
    withApisix(
      two({
        globalRules: [{ id: "g", plugins: { second: { name: "global" } } }],
        routes: [
          { uri: "/a", plugins: { second: { name: "r-second" }, first: { name: "r-first" } } },
        ],
      }),
      async (a) => {
        const notes = await notesDuring(a, "first", 3, async () => {
          assert.equal((await a.ask("/a")).status, 200);
        });
        const three = (phase: string): string[] => [
          `second ${phase} global`,
          `first ${phase} r-first`,
          `second ${phase} r-second`,
        ];
        assert.deepEqual(
          words(notes),
          [
            "rewrite",
            "access",
            "before_proxy",
            "header_filter",
            "body_filter",
            "delayed_body_filter",
            "log",
          ].flatMap(three),
        );
        const types = new Set(notes.map(({ conf, type }) => `${conf} ${String(type)}`));
        assert.deepEqual([...types].sort(), [
          "global global_rule",
          "r-first route",
          "r-second route",
        ]);
      },
    ));

  it("a status that a handler returns is the answer, and later handlers do not run", () =>
    withApisix(
      two({
        routes: [
          {
            uri: "/a",
            plugins: { first: { name: "stops", status: 403 }, second: { name: "after" } },
          },
        ],
      }),
      async (a) => {
        const notes = await notesDuring(a, "first", 2, async () => {
          const { status, text } = await a.ask("/a");
          assert.deepEqual({ status, text }, { status: 403, text: '{"by":"first"}\n' });
        });
        assert.deepEqual(
          words(notes).filter((text) => /rewrite|access|proxy/.test(text)),
          ["first rewrite stops", "second rewrite after", "first access stops"],
        );
        assert.ok(words(notes).includes("second header_filter after"));
      },
    ));

  it("a path without a route is answered 404 after the global rules' rewrite and access", () =>
    withApisix(
      one({ globalRules: [{ id: "g", plugins: { probe: { name: "gg" } } }] }),
      async (a) => {
        const notes = await notesDuring(a, "probe", 1, async () => {
          const { status, text } = await a.ask("/none");
          assert.equal(status, 404);
          assert.equal(text, '{"error_msg":"404 Route Not Found"}\n');
        });
        assert.deepEqual(
          notes.map(({ phase }) => phase),
          ["rewrite", "access", "header_filter", "body_filter", "delayed_body_filter", "log"],
        );
      },
    ));
});

describe("where configurations come from", () => {
  it("a route's configuration takes the place of its service's", () =>
    withApisix(
      two({
        services: [
          { id: "s", plugins: { first: { name: "service" }, second: { name: "service" } } },
        ],
        routes: [{ uri: "/a", service_id: "s", plugins: { first: { name: "route" } } }],
      }),
      async (a) => {
        const notes = await notesDuring(a, "first", 2, async () => {
          assert.equal((await a.ask("/a")).status, 200);
        });
        assert.deepEqual(words(notes).slice(0, 2), [
          "first rewrite route",
          "second rewrite service",
        ]);
        const { type, id } = notes[0] ?? {};
        assert.deepEqual({ type, id }, { type: "route&service", id: "1&s" });
      },
    ));

  it("a plugin config adds what the route has not", () =>
    withApisix(
      two({
        pluginConfigs: [
          { id: "p", plugins: { first: { name: "shared" }, second: { name: "shared" } } },
        ],
        routes: [{ uri: "/a", plugin_config_id: "p", plugins: { first: { name: "route" } } }],
      }),
      async (a) => {
        const notes = await notesDuring(a, "first", 2, async () => {
          assert.equal((await a.ask("/a")).status, 200);
        });
        assert.deepEqual(words(notes).slice(0, 2), [
          "first rewrite route",
          "second rewrite shared",
        ]);
      },
    ));

  it("a consumer's plugins run their rewrite after the route's, and take the route's place after", () =>
    withApisix(
      {
        plugins: ["first", "second", "auth"],
        lua: {
          first: probe("first", 2000),
          second: probe("second", 1000),
          auth: probe("auth", 2500, AUTH),
        },
        consumers: [
          {
            username: "jack",
            labels: { custom_id: "7" },
            plugins: { auth: { key: "k1" }, first: { name: "jack" }, second: { name: "jack" } },
          },
        ],
        routes: [{ uri: "/a", plugins: { auth: { name: "auth-conf" }, first: { name: "route" } } }],
      },
      async (a) => {
        const notes = await notesDuring(a, "first", 3, async () => {
          const reply = await a.ask("/a", { headers: { "x-key": "k1" } });
          const { headers } = reply.json<{ headers: Record<string, string> }>();
          assert.equal(headers["x-consumer-username"], "jack");
          assert.equal(headers["x-consumer-custom-id"], "7");
        });
        assert.deepEqual(words(notes).slice(0, 6), [
          "first rewrite route",
          "second rewrite jack",
          // The consumer's, as it is merged over the route's: it has no name.
          "auth access undefined",
          "first access jack",
          "second access jack",
          "auth before_proxy undefined",
        ]);
        const { type, id } = notes.at(-1) ?? {};
        assert.deepEqual({ type, id }, { type: "route&consumer", id: "1&jack" });
        assert.equal((await a.ask("/a", { headers: { "x-key": "k2" } })).status, 401);
      },
    ));
});

/** `auth` finds the consumer of x-key in its rewrite. */
const AUTH = `
_M.type = "auth"

local consumer_mod = require "apisix.consumer"

function _M.check_schema(conf, schema_type)
    if schema_type == core.schema.TYPE_CONSUMER then
        return core.schema.check({
            type = "object", properties = { key = { type = "string" } }, required = { "key" },
        }, conf)
    end
    return core.schema.check(_M.schema, conf)
end

function _M.rewrite(_conf, ctx)
    local key = core.request.header(ctx, "x-key")
    local consumer, consumer_conf = consumer_mod.find_consumer("auth", "key", key)
    if not consumer then
        return 401
    end
    consumer_mod.attach_consumer(ctx, consumer, consumer_conf)
end
`;

describe("_meta", () => {
  it("disable leaves a plugin out, priority moves it, filter asks the request", () =>
    withApisix(
      two({
        routes: [
          {
            uri: "/disabled",
            plugins: { first: { name: "ff", _meta: { disable: true } }, second: { name: "ss" } },
          },
          {
            uri: "/moved",
            plugins: { first: { name: "ff", _meta: { priority: 10 } }, second: { name: "ss" } },
          },
          {
            uri: "/filtered",
            plugins: { first: { name: "ff", _meta: { filter: [["arg_x", "==", "1"]] } } },
          },
        ],
      }),
      async (a) => {
        const rewrites = async (path: string, logs: number): Promise<string[]> => {
          const notes = await notesDuring(a, "first", logs, async () => {
            assert.equal((await a.ask(path)).status, 200);
          });
          return notes.filter(({ phase }) => phase === "rewrite").map(({ plugin }) => plugin);
        };
        assert.deepEqual(await rewrites("/disabled", 1), ["second"]);
        assert.deepEqual(await rewrites("/moved", 2), ["second", "first"]);
        assert.deepEqual(await rewrites("/filtered?x=1", 1), ["first"]);
        assert.deepEqual(await rewrites("/filtered?x=2", 0), []);
      },
    ));

  it("error_response takes the place of the body of a failure", () =>
    withApisix(
      one({
        routes: [
          {
            uri: "/a",
            plugins: {
              probe: { name: "no", status: 418, _meta: { error_response: { message: "no" } } },
            },
          },
        ],
      }),
      async (a) => {
        const { status, text } = await a.ask("/a");
        assert.deepEqual({ status, text }, { status: 418, text: '{"message":"no"}\n' });
      },
    ));
});

describe("checks", () => {
  const refused = (confs: Record<string, unknown>, message: RegExp): Promise<void> =>
    withApisix(
      one({
        routes: [{ uri: "/a", plugins: confs as Record<string, never> }],
        allowLog: [/failed to check item data of \[routes\]/],
      }),
      async (a) => {
        assert.equal((await a.ask("/a")).status, 404);
        assert.match(a.errorLog(), message);
      },
    );

  const prefix = "failed to check item data of \\[routes\\] err:";
  const ofPlugin = `${prefix}failed to check the configuration of plugin probe err: `;

  it("a route with a configuration that the schema refuses is not there", () =>
    refused({ probe: {} }, new RegExp(`${ofPlugin}property "name" is required ,val: `)));

  it("messages name the property and what was expected", async () => {
    await refused(
      { probe: { name: 7 } },
      new RegExp(
        `${ofPlugin}property "name" validation failed: wrong type: expected string, got number`,
      ),
    );
    await refused(
      { probe: { name: "x" } },
      new RegExp(
        `${ofPlugin}property "name" validation failed: string too short, expected at least 2, got 1`,
      ),
    );
    await refused(
      { probe: { name: "xx", more: 1 } },
      new RegExp(`${ofPlugin}additional properties forbidden, found more`),
    );
  });

  it("a plugin that is not loaded is unknown", () =>
    refused({ nobody: { name: "xx" } }, new RegExp(`${prefix}unknown plugin \\[nobody\\]`)));
});

describe("changes", () => {
  it("a changed route, service or global rule is seen by the next request", () =>
    withApisix(one({ routes: [{ uri: "/a", plugins: { probe: { name: "old" } } }] }), async (a) => {
      const seen = async (): Promise<Note[]> =>
        (await notesDuring(a, "probe", 1, async () => void (await a.ask("/a")))).filter(
          ({ phase }) => phase === "rewrite",
        );
      const [before] = await seen();
      assert.equal(before?.conf, "old");
      await a.change({ routes: [{ uri: "/a", plugins: { probe: { name: "new" } } }] });
      const [after] = await seen();
      assert.equal(after?.conf, "new");
      assert.notEqual(after.version, before.version);
      await a.change({
        routes: [],
        globalRules: [{ id: "g", plugins: { probe: { name: "gg" } } }],
      });
      assert.deepEqual(
        (await seen()).map(({ conf }) => conf),
        ["gg"],
      );
    }));

  it("in standalone mode any change makes all resources anew, with new versions", () =>
    withApisix(
      one({
        routes: [
          { id: "a", uri: "/a", plugins: { probe: { name: "aa" } } },
          { id: "b", uri: "/b", plugins: { probe: { name: "bb" } } },
        ],
      }),
      async (a) => {
        const version = async (): Promise<string | undefined> =>
          (await notesDuring(a, "probe", 1, async () => void (await a.ask("/a"))))[0]?.version;
        const before = await version();
        await a.change({
          routes: [
            { id: "a", uri: "/a", plugins: { probe: { name: "aa" } } },
            { id: "b", uri: "/b", plugins: { probe: { name: "changed" } } },
          ],
        });
        assert.notEqual(await version(), before);
      },
    ));

  it("plugin hot reload destroys the plugins and requires them anew in the same process", () =>
    withApisix(one({ routes: [{ uri: "/a", plugins: { probe: { name: "rr" } } }] }), async (a) => {
      const inits = async (): Promise<string[]> =>
        (await notesOf(a, "probe")).map(({ phase }) => phase);
      assert.deepEqual(await inits(), ["init"]);
      await a.reloadPlugins();
      assert.deepEqual(await inits(), ["init", "destroy", "init"]);
      assert.equal((await a.ask("/a")).status, 200);
    }));

  it("`apisix reload` starts new workers, which know nothing of the old", () =>
    withApisix(one({ routes: [{ uri: "/a", plugins: { probe: { name: "rr" } } }] }), async (a) => {
      await notesDuring(a, "probe", 1, async () => void (await a.ask("/a")));
      await a.reload();
      assert.deepEqual(
        (await notesOf(a, "probe")).map(({ phase }) => phase),
        ["init"],
      );
    }));
});

describe("the request", () => {
  it("reaches the upstream with X-Forwarded-* of this connection", () =>
    withApisix(one({ routes: [{ uri: "/a" }] }), async (a) => {
      const reply = await a.ask("/a?x=%2F&y", { headers: { "x-forwarded-host": "liar" } });
      const { url, headers } = reply.json<{ url: string; headers: Record<string, string> }>();
      assert.equal(url, "/a?x=%2F&y");
      assert.equal(headers["x-forwarded-proto"], "http");
      assert.match(headers["x-forwarded-host"] ?? "", /^127\.0\.0\.1:\d+$/);
      assert.equal(headers["x-forwarded-port"], String(a.server.port));
    }));
});
