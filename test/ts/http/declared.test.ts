/** responseHeaders: what nginx is told of it, and what is refused. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Change } from "../../../src/http/changes.ts";
import { checkDefinition, checkHook } from "../../../src/http/definition.ts";
import { definePlugin, type Plugin, Type } from "../../../src/sdk/index.ts";
import { open } from "./support.ts";

const { responseField, writeField } = Change;

const declares = (responseHeaders: unknown): Plugin =>
  ({ name: "declares", responseHeaders }) as Plugin;

/** What Lua is told. */
async function changesOf(returned: unknown): Promise<readonly unknown[] | null> {
  const { engine } = open(declares(() => returned));
  const { phases, fields } = await engine.configure(1, [["declares", null]]);
  assert.deepEqual(phases, {}, "there is no handler to be called");
  return fields;
}

describe("declared response fields", () => {
  test("are changes for Lua, in the plugin's order", async () => {
    const fields = await changesOf({
      ...{ "X-A": "1", "x-n": 2, "x-two": ["1", 2], "x-gone": null, "x-none": [] },
      ...{ "x-undefined": undefined, "x-empty": "", x_under: "\u00e9" },
    });
    assert.deepEqual(fields, [
      ...[responseField, "X-A", "1"],
      ...[responseField, "x-n", "2"],
      ...[responseField, "x-two", ["1", "2"]],
      ...[responseField, "x-gone", null],
      ...[responseField, "x-none", null],
      ...[writeField, responseField, "x-empty", [""]],
      ...[writeField, responseField, "x_under", [Buffer.from("\u00e9", "latin1")]],
    ]);
  });

  test("that nginx has once are one line, whatever lines the upstream has sent", async () => {
    assert.deepEqual(await changesOf({ expires: "0", "accept-ranges": ["a", "b"] }), [
      ...[responseField, "expires", null, responseField, "expires", "0"],
      ...[responseField, "accept-ranges", null, responseField, "accept-ranges", "a, b"],
    ]);
  });

  test("are none where nothing is returned for any", async () => {
    assert.equal(await changesOf({}), null);
    assert.equal(await changesOf({ "x-a": undefined }), null);
  });

  test("may be in an object without a prototype, as maps of configurations are", async () => {
    const map = Object.assign(Object.create(null) as object, { "x-a": "1" });
    assert.deepEqual(await changesOf(map), [responseField, "x-a", "1"]);
  });

  test("come from each plugin's configuration, once for each, in the chain's order", async () => {
    const calls: unknown[] = [];
    const plugin = (name: string, priority: number): Plugin =>
      definePlugin({
        name,
        priority,
        schema: Type.Object({ value: Type.String({ default: "default" }) }),
        responseHeaders(conf) {
          calls.push([this.name, conf.value]);
          return { "x-a": `${name} ${conf.value}` };
        },
      }) as Plugin;
    const { engine } = open(plugin("low", 1), plugin("high", 2));
    const members = [
      ["low", null],
      ["high", { value: "given" }],
    ] as const;
    const [{ fields }] = await Promise.all([
      engine.configure(1, members),
      engine.configure(1, members),
    ]);
    assert.deepEqual(fields, [
      ...[responseField, "x-a", "high given"],
      ...[responseField, "x-a", "low default"],
    ]);
    assert.deepEqual(calls, [
      ["low", "default"],
      ["high", "given"],
    ]);
  });

  test("are those of the newer version after a reload", async () => {
    const { engine } = open(declares(() => ({ "x-a": "1" })));
    await engine.configure(1, [["declares", null]]);
    const newer = declares(() => ({ "x-a": "2" }));
    assert.deepEqual(await engine.renew(new Map([["declares", newer]]), () => undefined), [1]);
    const { fields } = await engine.configure(2, [["declares", null]], 1);
    assert.deepEqual(fields, [responseField, "x-a", "2"]);
  });

  test("are not those of a plugin's part that a worker of APISIX has once", async () => {
    const plugin = { ...declares(() => ({ "x-a": "1" })), apisix: { init: () => 1 } };
    const { engine } = open(plugin);
    const { fields } = await engine.configure(1, [["declares", null, { worker: true }]]);
    assert.equal(fields, null);
  });
});

describe("declared response fields that are refused, with the configuration", () => {
  for (const [what, returned, why] of [
    ["a name", { "x y": "1" }, '"x y" is no field name: it must be a token (RFC 9110)'],
    ["a value", { "x-a": "1\r\nx-b: 2" }, "the value of x-a has CR at 1"],
    ["no text", { "x-a": {} }, "invalid value of x-a: expected a string or a number, not a object"],
    ["no text among several", { "x-a": ["1", null] }, "invalid value of x-a: expected a string"],
    ["a hop-by-hop field", { "transfer-encoding": "x" }, "transfer-encoding is a hop-by-hop field"],
    ["one that is deleted", { connection: null }, "connection is a hop-by-hop field"],
    ["a length", { "content-length": "5" }, "content-length is nginx's: it counts the body itself"],
    ["a coding", { "content-encoding": "gzip" }, "content-encoding follows from the body"],
    ["no coding", { "content-encoding": null }, "content-encoding follows from the body"],
    ["nothing", undefined, 'it returned Undefined: expected a plain object, { "x-frame-options"'],
    ["null", null, "it returned Null: expected a plain object"],
    ["a list", [["x-a", "1"]], "it returned Array: expected a plain object"],
    ["Headers", new Headers({ "x-a": "1" }), "it returned Headers: expected a plain object"],
    ["a promise", Promise.resolve({}), "it returned Promise: expected a plain object"],
  ] as const) {
    test(what, async () => {
      const { engine, reports } = open(declares(() => returned));
      const error = await engine.configure(1, [["declares", null]]).then(
        () => assert.fail("it is not refused"),
        (failure: unknown) => failure as Error & { code: string },
      );
      assert.equal(error.code, "handler_failed");
      const prefix = "declares: responseHeaders failed: ";
      assert.ok(error.message.startsWith(prefix + why), error.message);
      assert.equal(reports.length, 1);
      assert.match(reports[0]!, /^declares responseHeaders: /);
    });
  }

  test("what it throws, before anything is set up", async () => {
    const setUp: string[] = [];
    const { engine, reports } = open({
      ...declares(() => {
        throw new Error("no luck");
      }),
      setup: () => setUp.push("it"),
      access() {},
    });
    await assert.rejects(engine.configure(1, [["declares", null]]), {
      code: "handler_failed",
      message: "declares: responseHeaders failed: no luck",
    });
    assert.deepEqual([setUp, reports], [[], ["declares responseHeaders: Error: no luck"]]);
  });

  test("what is no function, when the plugin is loaded", () => {
    assert.throws(() => checkDefinition({ ...declares({}), access() {} }, "declares"), {
      code: "bad_plugin",
      message: "declares: responseHeaders is a function",
    });
    assert.throws(
      () => checkDefinition({ name: "declares" }, "declares"),
      /and no responseHeaders/,
    );
  });

  test("a plugin of them alone, in APISIX's hooks before the upstream", () => {
    const plugin = declares(() => ({}));
    checkHook(plugin, "post-resp");
    assert.throws(() => checkHook(plugin, "pre-req"), { code: "bad_plugin" });
  });
});
