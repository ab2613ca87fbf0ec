/** What is there for Apache APISIX: its flags, consumers, metadata, hooks, and a worker's part. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Change } from "../../../src/http/changes.ts";
import type { Member } from "../../../src/http/engine.ts";
import { HeadFlag, type HeadParts } from "../../../src/http/head.ts";
import { PhaseNumber } from "../../../src/http/phases.ts";
import { definePlugin, type Plugin, type RequestContext, Type } from "../../../src/sdk/index.ts";
import { testChain, testPlugin } from "../../../src/testing/index.ts";
import { caller, head, open, runOnce } from "./support.ts";

const { rewritten, apisix } = HeadFlag;

describe("a request that APISIX serves", () => {
  const seeing = async (parts: Partial<HeadParts>, look: (ctx: RequestContext) => unknown) => {
    let seen: unknown;
    await runOnce({ name: "looks", access: (ctx) => void (seen = look(ctx)) }, null, parts);
    return seen;
  };

  test("has its URI as the upstream will get it when that was rewritten", async () => {
    const parts = { flags: apisix | rewritten, uri: "/v2/a%2Fb/./c", args: "x=%20&y" };
    const look = ({ request }: RequestContext) => [
      request.uri,
      request.path,
      request.originalUri,
      request.query.get("x"),
    ];
    assert.deepEqual(await seeing(parts, look), [
      "/v2/a%2Fb/./c?x=%20&y",
      "/v2/a/b/c",
      "/a%2Fb?x=1",
      " ",
    ]);
    const plain = { ...parts, args: undefined };
    assert.equal(await seeing(plain, ({ request }) => request.uri), "/v2/a%2Fb/./c");
  });

  test("sends a path that is set as it is spelled: %2F is no slash", async () => {
    const plugin = definePlugin({
      name: "sets",
      access({ request }) {
        request.uri = "/a%2Fb/caf\u00e9?y";
        assert.equal(request.path, "/a/b/caf\u00e9");
      },
    });
    const change = [Change.uri, Buffer.from("/a/b/caf\u00e9"), "y", "/a%2Fb/caf%C3%A9?y"];
    const changes = await runOnce(plugin, null, { flags: apisix });
    assert.deepEqual(changes, [...change, false]);
    // nginx itself may refuse to send what it would spell otherwise.
    assert.deepEqual(await runOnce(plugin), [Change.handler, 0, "sets", 500, 5, ...change, true]);
  });

  test("has ctx.apisix, which is not there in any other", async () => {
    assert.equal(await seeing({}, (ctx) => ctx.apisix), undefined);
    assert.equal(await seeing({ flags: apisix }, (ctx) => ctx.apisix === ctx.apisix), true);
    assert.equal(await seeing({ flags: apisix }, (ctx) => ctx.apisix === undefined), false);
  });
});

describe("consumers", () => {
  const auth = definePlugin({
    name: "key-auth",
    apisix: { type: "auth", consumerSchema: Type.Object({ key: Type.String() }) },
    async rewrite(ctx) {
      const key = ctx.request.headers.get("x-key") ?? "";
      const consumer = await ctx.apisix!.findConsumer<{ key: string }>("key", key);
      if (consumer === null) return ctx.exit(401);
      ctx.log.info(JSON.stringify(consumer));
      ctx.apisix!.attachConsumer(consumer);
      return undefined;
    },
  });

  test("are asked for by field and value, and attached by name", async () => {
    const { engine } = open(auth);
    await engine.configure(1, [["key-auth", null]]);
    const bytes = head({
      phase: PhaseNumber.rewrite,
      flags: apisix,
      requestFields: ["x-key", "k"],
    });
    const asked = await engine.run(bytes, null, null, null, caller());
    assert.deepEqual(asked, [Change.ask, 1, [["consumer", "key", "k"]]]);
    const told = { name: "ada", username: "ada", group_id: null, conf: { key: "k" } };
    const changes = await engine.resume(1, [[true, told]], caller());
    assert.deepEqual(changes, [
      ...[Change.handler, 0, "key-auth", 500, 2],
      ...[Change.attachConsumer, "ada"],
    ]);
  });

  test("are APISIX's alone, and not there in a phase that cannot wait", async () => {
    const filter = (ctx: unknown): void => {
      (ctx as RequestContext).apisix!.attachConsumer({ name: "ada" } as never);
    };
    const changes = (await runOnce({ name: "late", headerFilter: filter }, null, {
      phase: PhaseNumber.headerFilter,
      flags: apisix,
    })) as unknown[];
    assert.match(String(changes[3]), /attachConsumer is not there in headerFilter/);
  });

  test("are the kit's option", async () => {
    const consumers = [
      { username: "ben", plugins: { other: { key: "k" } } },
      { username: "ada", plugins: { "key-auth": { key: "k" } }, labels: { custom_id: "7" } },
    ];
    const kit = await testPlugin(auth, undefined, { consumers });
    const known = await kit.request({ headers: { "x-key": "k" } });
    assert.equal(known.consumer, "ada");
    assert.deepEqual(JSON.parse(known.log[0]!.text), {
      name: "ada",
      username: "ada",
      labels: { custom_id: "7" },
      customId: "7",
      conf: { key: "k" },
    });
    const unknown = await kit.request({ headers: { "x-key": "x" } });
    assert.deepEqual([unknown.response.status, unknown.consumer], [401, undefined]);
    await kit.close();
  });

  test("cannot be attached without having been found", async () => {
    const plugin = definePlugin({
      name: "wrong",
      access: (ctx) => ctx.apisix!.attachConsumer({ name: "eve" } as never),
    });
    const kit = await testPlugin(plugin, undefined, { consumers: [] });
    const { errors, upstreamRequest } = await kit.request();
    await kit.close();
    assert.match(errors[0]!.text, /the consumer eve was not found before/);
    assert.equal(upstreamRequest, undefined);
  });
});

describe("the kit with APISIX's requests", () => {
  test("sends a path that was set to the upstream as it is spelled", async () => {
    const kit = await testChain(
      [
        {
          plugin: definePlugin({ name: "one", rewrite: (c) => void (c.request.uri = "/a%2Fb?x") }),
        },
        {
          plugin: definePlugin({
            name: "two",
            access: ({ request, log }) => log.info(request.uri, request.path, request.originalUri),
          }),
        },
      ],
      { consumers: [] },
    );
    const { upstreamRequest, log } = await kit.request({ url: "/old" });
    await kit.close();
    assert.equal(upstreamRequest?.uri, "/a%2Fb?x");
    assert.equal(log[0]?.text, "/a%2Fb?x /a/b /old");
  });
});

describe("metadata", () => {
  const limits = definePlugin({
    name: "limits",
    schema: Type.Object({ burst: Type.Integer({ default: 1 }) }),
    apisix: {
      metadataSchema: Type.Object({
        rate: Type.Integer({ default: 10 }),
        tags: Type.Optional(Type.Array(Type.String())),
      }),
    },
    access(ctx, { conf, metadata }) {
      // The types are those of both schemas.
      const sum: number = conf.burst + (metadata?.rate ?? 0);
      ctx.log.info(sum, JSON.stringify(metadata));
    },
  });

  test("is the instance's, with its schema's defaults, Lua's empty table as an array", async () => {
    const told = async (metadata: unknown) => {
      const kit = await testPlugin(limits, {}, { metadata: { limits: metadata, other: {} } });
      const { log, errors } = await kit.request();
      await kit.close();
      assert.deepEqual(errors, []);
      return log[0]?.text;
    };
    assert.equal(await told(undefined), "1 undefined");
    assert.equal(await told(null), "1 undefined");
    assert.equal(await told({}), '11 {"rate":10}');
    assert.equal(await told({ rate: 2, tags: {} }), '3 {"rate":2,"tags":[]}');
  });

  test("is what APISIX has when there is no schema for it", async () => {
    const { engine } = open({
      name: "free",
      access: (ctx, { metadata }) => ctx.exit(200, metadata as object),
    });
    await engine.configure(1, [["free", null, { metadata: { rate: 7 } }]]);
    const changes = (await engine.run(head(), null, null, null, caller())) as unknown[];
    assert.equal(Buffer.from(changes.at(-1) as Uint8Array).toString(), '{"rate":7}');
  });

  test("that is wrong is refused, with its path", async () => {
    await assert.rejects(testPlugin(limits, {}, { metadata: { limits: { rate: "x" } } }), {
      code: "bad_config",
      message: 'limits: metadata: rate must be integer, not "x"',
    });
  });
});

describe("hooks", () => {
  const trail = (name: string, rest: Partial<Plugin> = {}): Plugin => ({
    name,
    schema: Type.Object({ say: Type.String({ default: "" }), tags: Type.Array(Type.String()) }),
    rewrite: (ctx, { conf }: { conf: { say: string } }) =>
      void ctx.request.headers.append("x-a", `${name} r${conf.say}`),
    access: (ctx) => void ctx.request.headers.append("x-a", `${name} a`),
    ...rest,
  });
  const configured = async (plugins: Plugin[], members: Member[]) => {
    const { engine } = open(...plugins);
    const { phases } = await engine.configure(1, members);
    const run = (phase: number) =>
      engine.run(head({ phase, requestFields: [] }), null, null, null, caller());
    return { phases, run };
  };
  const hook = (
    name: string,
    value: unknown,
    of: true | "pre-req" | "post-resp" = true,
  ): Member => [name, value, { hook: of, priority: 0 }];

  test("run all of a plugin before the next, in the list's order, in rewrite", async () => {
    const { phases, run } = await configured(
      [trail("low", { priority: 1 }), trail("high", { priority: 2 })],
      [hook("low", '{"say":"!","tags":[]}'), hook("high", '{"tags":["a"]}')],
    );
    assert.deepEqual(Object.keys(phases), ["rewrite"]);
    assert.equal(phases["rewrite"]?.plugins, "low, high");
    const changes = (await run(PhaseNumber.rewrite)) as unknown[];
    const appended = changes.filter((_, i) => changes[i - 2] === Change.appendRequestField);
    assert.deepEqual(appended, ["low r!", "low a", "high r", "high a"]);
    assert.equal(await run(PhaseNumber.access), null);
  });

  test("run content, too: the plugin answers", async () => {
    const content = (): Response => new Response("mine");
    const { run } = await configured(
      [{ name: "answers", content }, trail("never")],
      [hook("answers", ""), hook("never", '{"tags":[]}')],
    );
    const changes = (await run(PhaseNumber.rewrite)) as unknown[];
    assert.equal(changes.at(-3), Change.exit);
  });

  test("have a JSON text as configuration, and an empty one for none", async () => {
    const plugins = [trail("one"), { name: "bare", access() {} }];
    const refused: [string, unknown, RegExp][] = [
      ["one", "{bad", /^one: the value is not JSON: [^"]+$/],
      ["one", '{"say":"s3cret" "x"}', /^one: the value is not JSON: (?!.*s3cret)/],
      ["one", "", /^one: tags is missing$/],
      ["one", '{"tags":{}}', /^one: tags must be array, not \{\}$/],
      ["one", "[]", /^one: the configuration must be object, not \[\]$/],
      ["one", 7, /^one: the value is no text$/],
      ["bare", '{"x":1}', /^bare: the plugin has no schema/],
    ];
    for (const [name, value, message] of refused) {
      await assert.rejects(configured(plugins, [hook(name, value)]), {
        code: "bad_config",
        message,
      });
    }
    await configured(plugins, [hook("bare", "")]);
    await configured(plugins, [hook("bare", "{}")]);
  });

  test("refuse a plugin that does nothing in them", async () => {
    const plugins = [
      { name: "before", access() {} },
      { name: "after", headerFilter() {} },
    ];
    await configured(plugins, [hook("before", "", "pre-req"), hook("after", "", "post-resp")]);
    await assert.rejects(configured(plugins, [hook("before", "", "post-resp")]), {
      code: "bad_plugin",
      message: /^before does nothing in ts-plugin-post-resp: .* headerFilter, bodyFilter, log$/,
    });
    await assert.rejects(configured(plugins, [hook("after", "", "pre-req")]), {
      code: "bad_plugin",
      message: /^after does nothing in ts-plugin-pre-req: .* rewrite, access, content$/,
    });
  });
});

describe("a worker's part of a plugin", () => {
  const events: unknown[] = [];
  const define = (version: string): Plugin =>
    definePlugin({
      name: "counts",
      version,
      schema: Type.Object({ needed: Type.String() }),
      setup: () => assert.fail("it has no configuration"),
      apisix: {
        async init({ log }) {
          log.info("init");
          events.push(`init ${version}`);
          return Promise.resolve({ hits: 0 });
        },
        destroy(state, { replaced }) {
          events.push([`destroy ${version}`, state.hits, replaced]);
        },
        api: [
          {
            methods: ["GET"],
            uris: ["/apisix/plugin/counts"],
            handler: (ctx, state) => ctx.exit(200, String(++state.hits)),
          },
          {
            methods: ["DELETE"],
            uris: ["/apisix/plugin/counts"],
            handler() {
              throw new Error("not today");
            },
          },
        ],
        controlApi: [
          {
            methods: ["GET"],
            uris: ["/v1/plugin/counts"],
            handler: async (_ctx, { hits }) => Promise.resolve(Response.json({ hits, version })),
          },
        ],
      },
    });
  const worker: Member = ["counts", null, { worker: true }];

  test("is set up and torn down by init and destroy, and answers its routes", async () => {
    events.length = 0;
    const { engine } = open(define("1"));
    const { phases } = await engine.configure(1, [worker]);
    assert.deepEqual(Object.keys(phases), ["content"]);
    const ask = async (route: string): Promise<unknown[]> => {
      const bytes = head({ phase: PhaseNumber.content });
      return (await engine.run(bytes, null, null, Buffer.from(route), caller())) as unknown[];
    };
    const bodyOf = (changes: unknown[]): string =>
      Buffer.from(changes.at(-1) as Uint8Array).toString();
    assert.equal(bodyOf(await ask("api/0")), "1");
    assert.equal(bodyOf(await ask("api/0")), "2");
    assert.equal(bodyOf(await ask("control/0")), '{"hits":2,"version":"1"}');
    assert.deepEqual((await ask("api/1")).slice(0, 3), [Change.failed, "counts", 500]);
    for (const route of ["api/2", "control/1", "other/0", ""]) {
      assert.match(String((await ask(route))[3]), /the plugin has no route .*have APISIX reload/);
    }
    await engine.release([1]);
    assert.deepEqual(events, ["init 1", ["destroy 1", 2, false]]);
  });

  test("is renewed with the plugin", async () => {
    events.length = 0;
    const { engine } = open(define("1"));
    await engine.configure(1, [worker]);
    const newer = define("2");
    assert.deepEqual(await engine.renew(new Map([["counts", newer]]), () => undefined), [1]);
    await engine.configure(2, [worker], 1);
    await engine.release([1]);
    assert.deepEqual(events, ["init 1", "init 2", ["destroy 1", 0, true]]);
    assert.deepEqual(await engine.renew(new Map([["counts", newer]]), () => undefined), []);
    await engine.close(null);
  });

  test("has no phase when it has no routes", async () => {
    const { engine } = open({ name: "starts", apisix: { init: () => 1 } });
    const described = await engine.configure(1, [["starts", null, { worker: true }]]);
    assert.deepEqual(described, { phases: {}, fields: null });
  });

  test("whose init fails is told of as a setup that fails", async () => {
    const init = (): never => {
      throw new Error("no luck");
    };
    const { engine } = open({ name: "starts", apisix: { init } });
    await assert.rejects(engine.configure(1, [["starts", null, { worker: true }]]), {
      code: "handler_failed",
      message: "starts: setup failed: no luck",
    });
  });
});

describe("the field apisix", () => {
  const refused: [unknown, RegExp][] = [
    [7, /: apisix is an object$/],
    [{ schema: {} }, /apisix has no option schema: consumerSchema, /],
    [{ consumerSchema: { type: "nothing" } }, /apisix\.consumerSchema does not compile: /],
    [{ metadataSchema: 1 }, /apisix\.metadataSchema is an object/],
    [{ encryptFields: "secret" }, /apisix\.encryptFields is an array of fields/],
    [{ type: "auths" }, /apisix\.type is "auth"/],
    [{ runPolicy: "once" }, /apisix\.runPolicy is "prefer_route"/],
    [{ init: 1, destroy: 2 }, /apisix\.init is a function; apisix\.destroy is a function/],
    [{ api: [] }, /apisix\.api is an array of routes/],
    [{ api: [1] }, /apisix\.api\[0\] is an object/],
    [
      { controlApi: [{ methods: ["get"], uris: [], uri: "/" }] },
      new RegExp(
        "apisix\\.controlApi\\[0\\] has no option uri: .*; apisix\\.controlApi\\[0\\]\\.methods is " +
          ".*; apisix\\.controlApi\\[0\\]\\.uris is .*; apisix\\.controlApi\\[0\\]\\.handler is a function",
      ),
    ],
  ];
  for (const [field, message] of refused) {
    test(`is refused in words: ${JSON.stringify(field)}`, async () => {
      const { engine } = open({ name: "bad", access() {}, apisix: field } as never);
      await assert.rejects(engine.configure(1, [["bad", null]]), { code: "bad_plugin", message });
    });
  }

  test("makes a plugin of what has no handler, but not by its schemas alone", async () => {
    const { engine } = open({ name: "none", apisix: { type: "auth" } });
    await assert.rejects(engine.configure(1, [["none", null]]), { message: /it has no handler/ });
  });
});
