/** The engine without nginx: configurations, from their check to the plugin's teardown. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { definePlugin, type Plugin, Type } from "../../../src/sdk/index.ts";
import { caller, head, open } from "./support.ts";

describe("configurations", () => {
  const schema = Type.Object({
    secret: Type.String({ minLength: 8 }),
    limits: Type.Optional(Type.Array(Type.Object({ max: Type.Integer() }))),
    retries: Type.Integer({ default: 3 }),
  });

  test("defaults are applied, setup and teardown frame each", async () => {
    const events: unknown[] = [];
    const plugin = definePlugin({
      name: "framed",
      schema,
      setup(conf) {
        events.push(["setup", conf.retries]);
        return { key: conf.secret };
      },
      teardown: ({ state }) => void events.push(["teardown", state.key]),
      access: (_ctx, { state, conf }) => void events.push([state.key, conf.retries]),
    });
    const { engine } = open(plugin as Plugin);
    const members = [["framed", { secret: "12345678" }]] as const;
    await Promise.all([engine.configure(1, members), engine.configure(1, members)]);
    await engine.run(head(), null, null, null, caller());
    await engine.release([1]);
    assert.deepEqual(events, [
      ["setup", 3],
      ["12345678", 3],
      ["teardown", "12345678"],
    ]);
    assert.throws(() => engine.run(head(), null, null, null, caller()), /not known/);
  });

  test("a schema's $id may be another's, too: a newer version's", async () => {
    const withId = (name: string): Plugin =>
      definePlugin({ name, schema: Type.Object({}, { $id: "conf" }), access() {} }) as Plugin;
    const { engine } = open(withId("first"), withId("second"));
    await engine.configure(1, [["first", null]]);
    await engine.configure(2, [["second", null]]);
  });

  for (const [conf, expected] of [
    [{}, /secret is missing/],
    [{ secret: "short" }, /secret must NOT have fewer than 8 characters/],
    [{ secret: "12345678", limits: [{ max: "x" }] }, /limits\[0\]\.max must be integer, not "x"/],
  ] as const) {
    test(`an error names the path and what was expected: ${String(expected)}`, async () => {
      const { engine } = open({ name: "strict", schema, access() {} });
      await assert.rejects(engine.configure(1, [["strict", conf]]), {
        code: "bad_config",
        message: expected,
      });
    });
  }

  test("a Standard Schema validator's issues are told with their paths", async () => {
    const standard = {
      "~standard": {
        version: 1 as const,
        vendor: "test",
        validate: (value: unknown) =>
          (value as { n?: unknown }).n === 1
            ? { value: { n: 2 } }
            : { issues: [{ message: "must be 1", path: ["n"] }] },
      },
    };
    let got: unknown;
    const plugin = definePlugin({
      name: "std",
      schema: standard,
      access: (_ctx, { conf }) => void (got = conf),
    });
    const { engine } = open(plugin as Plugin);
    await assert.rejects(engine.configure(1, [["std", {}]]), { message: "std: n: must be 1" });
    await engine.configure(2, [["std", { n: 1 }]]);
    await engine.run(head({ token: 2 }), null, null, null, caller());
    assert.deepEqual(got, { n: 2 });
  });
});
