/** The Lua file of a plugin, loaded by LuaJIT: what is read from a definition arrives there. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test, type TestContext } from "node:test";
import { describePlugin } from "../../../src/cli/apisix/describe.ts";
import { bracketed, luaFile, type LuaPlugin } from "../../../src/cli/apisix/lua-file.ts";
import { definePlugin, type Plugin } from "../../../src/sdk/index.ts";
import { folderOf, loadInLua, type Captured } from "./support.js";

function described(plugin: object, source = "x.ts", prefix = ""): LuaPlugin {
  const result = describePlugin(plugin as Plugin, source, prefix);
  if ("problems" in result) assert.fail(result.problems.join("\n"));
  return result;
}

function problemsOf(plugin: object): readonly string[] {
  const result = describePlugin(plugin as Plugin, "x.ts", "");
  return "problems" in result ? result.problems : [];
}

function inLua(t: TestContext, plugin: LuaPlugin): Captured {
  const file = join(folderOf(t), "x.lua");
  writeFileSync(file, luaFile(plugin));
  return loadInLua(file)[0]!;
}

describe("a plugin's Lua file", () => {
  test("has all that the plugin says to APISIX", (t) => {
    const field = { type: "object", properties: { secret: { type: "string" } } };
    const handler = () => new Response();
    const captured = inLua(
      t,
      described(
        {
          name: "full",
          version: "2.0.1",
          priority: -3.5,
          schema: { type: "object", properties: { header: {} } },
          apisix: {
            consumerSchema: field,
            metadataSchema: { type: "object" },
            encryptFields: ["secret", "header.x"],
            type: "auth",
            runPolicy: "prefer_route",
            init: () => 1,
            api: [{ methods: ["GET", "POST"], uris: ["/apisix/plugin/full", "/é"], handler }],
            controlApi: [{ methods: ["GET"], uris: ["/v1/plugin/full"], handler }],
          },
          ...{ rewrite() {}, access() {}, beforeProxy() {}, headerFilter() {}, bodyFilter() {} },
          ...{ delayedBodyFilter() {}, log() {} },
        },
        "full.ts",
        "ts-",
      ),
    );
    const { schema, consumer_schema, metadata_schema, ...rest } = captured;
    assert.deepEqual(rest, {
      ...{ name: "ts-full", plugin: "full", version: "2.0.1", priority: -3.5 },
      phases: [
        ...["rewrite", "access", "before_proxy", "header_filter", "body_filter"],
        ...["delayed_body_filter", "log"],
      ],
      ...{ type: "auth", run_policy: "prefer_route", worker: true },
      api: [{ methods: ["GET", "POST"], uris: ["/apisix/plugin/full", "/é"] }],
      control_api: [{ methods: ["GET"], uris: ["/v1/plugin/full"] }],
    });
    assert.deepEqual(JSON.parse(schema), {
      ...{ type: "object", properties: { header: {} }, encrypt_fields: ["header.x"] },
    });
    assert.deepEqual(JSON.parse(consumer_schema as string), {
      ...field,
      encrypt_fields: ["secret"],
    });
    assert.deepEqual(JSON.parse(metadata_schema as string), { type: "object" });
  });

  test("of a plugin that says little has what is left out", (t) => {
    const { schema, ...rest } = inLua(t, described(definePlugin({ name: "small", log() {} })));
    assert.deepEqual(rest, {
      ...{ name: "small", plugin: "small", version: "0.0.0", priority: 0, phases: ["log"] },
    });
    assert.deepEqual(JSON.parse(schema), { type: "object", additionalProperties: false });
  });

  test("has content run in access, once for both", (t) => {
    const content = () => new Response();
    const alone = inLua(t, described({ name: "alone", content }));
    assert.deepEqual([alone["phases"], alone["content"]], [["access"], true]);
    const both = inLua(t, described({ name: "both", access() {}, content, log() {} }));
    assert.deepEqual([both["phases"], both["content"]], [["access", "log"], true]);
  });

  for (const part of ["init", "destroy", "api", "controlApi"]) {
    test(`says that something runs in each worker: apisix.${part}`, (t) => {
      const value = part.endsWith("pi") ? [] : () => undefined;
      const plugin = { name: "w", access() {}, apisix: { [part]: value } };
      assert.equal(inLua(t, described(plugin))["worker"], true);
    });
  }

  const hostile = ["]]", "]==]", "]===] ]====]", "]", "\\", '"', "\r\n\0", "é€😀", "--[==["];
  for (const text of hostile) {
    test(`carries ${JSON.stringify(text)} in a schema, a version and a route`, (t) => {
      const description = { type: "object", description: text, properties: { [text]: {} } };
      const captured = inLua(
        t,
        described({
          name: "x",
          version: text,
          schema: description,
          access() {},
          apisix: { api: [{ methods: [text], uris: [text] }] },
        }),
      );
      assert.deepEqual(JSON.parse(captured.schema), description);
      assert.equal(captured["version"], text);
      assert.deepEqual(captured["api"], [{ methods: [text], uris: [text] }]);
    });
  }

  test("chooses brackets that are not in the text, nor at its end", () => {
    assert.equal(bracketed("a"), "[==[\na]==]");
    assert.equal(bracketed("a]==]b]===]"), "[====[\na]==]b]===]]====]");
    assert.equal(bracketed("a]=="), "[===[\na]==]===]");
  });

  test("cannot be left by its source's name", (t) => {
    const plugin = described({ name: "x", log() {} }, "a\nos.exit(3)\n/x.ts");
    assert.equal(inLua(t, plugin).name, "x");
  });

  test("takes the JSON Schema that a validator brings, and says so when it cannot", () => {
    const standard = (jsonSchema: object | undefined) => ({
      name: "s",
      access() {},
      schema: { "~standard": { version: 1, vendor: "zod", jsonSchema, validate: () => ({}) } },
    });
    const asked: unknown[] = [];
    const input = (options: unknown) => {
      asked.push(options);
      return { type: "object", properties: { a: {} } };
    };
    const { schema } = described(standard({ input }));
    assert.deepEqual(schema, { type: "object", properties: { a: {} } });
    assert.deepEqual(asked, [{ target: "draft-07" }]);
    assert.match(problemsOf(standard(undefined)).join(), /validator of zod with no JSON Schema/);
    const refuse = () => {
      throw new Error("no dates");
    };
    assert.match(problemsOf(standard({ input: refuse })).join(), /zod cannot say it .*no dates/);
  });

  test("is not written where a field to encrypt is in no schema, or a name is too long", () => {
    const name = "a".repeat(65);
    const metadata = { name, log() {}, apisix: { metadataSchema: {} } };
    assert.match(problemsOf(metadata).join(), /has 65 characters.*64 at most/);
    assert.deepEqual(problemsOf({ name, log() {} }), []);
    const encrypt = { name: "e", log() {}, apisix: { encryptFields: ["key"] } };
    assert.match(problemsOf(encrypt).join(), /no schema has the property "key"/);
  });
});
