/** Configurations from Lua, which has one empty table: {} is [] where the schema wants an array. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { checkConfig, checkText } from "../../../src/http/config.ts";
import { type Plugin, type StandardSchemaV1, Type } from "../../../src/sdk/index.ts";

const plugin = (schema: unknown): Plugin => ({ name: "one", schema, access() {} });
/** With the prototypes that a configuration's maps have not. */
const checked = async (schema: unknown, given: unknown): Promise<unknown> =>
  structuredClone(await checkConfig(plugin(schema), given));

describe("an empty table of Lua's", () => {
  const right: Record<string, [schema: unknown, given: unknown, expected: unknown]> = {
    "an array": [Type.Object({ tags: Type.Array(Type.String()) }), { tags: {} }, { tags: [] }],
    "arrays in arrays and maps, wherever they are": [
      Type.Object({
        rules: Type.Array(
          Type.Object({
            "a/b~c": Type.Array(Type.String()),
            by: Type.Record(Type.String(), Type.Array(Type.Integer())),
          }),
        ),
      }),
      {
        rules: [
          { "a/b~c": {}, by: { x: {}, y: [1] } },
          { "a/b~c": ["z"], by: {} },
        ],
      },
      {
        rules: [
          { "a/b~c": [], by: { x: [], y: [1] } },
          { "a/b~c": ["z"], by: {} },
        ],
      },
    ],
    "the configuration itself": [Type.Array(Type.String()), {}, []],
    "an array among others": [
      Type.Object({ only: Type.Union([Type.String(), Type.Array(Type.String())]) }),
      { only: {} },
      { only: [] },
    ],
    "an array or null": [{ properties: { a: { type: ["array", "null"] } } }, { a: {} }, { a: [] }],
    "an array where the schema has a reference": [
      { $defs: { list: { type: "array" } }, properties: { a: { $ref: "#/$defs/list" } } },
      { a: {} },
      { a: [] },
    ],
    "an array that another one asks for": [
      {
        properties: { a: { type: "array" }, b: {} },
        if: { properties: { a: { type: "array" } } },
        then: { properties: { b: { type: "array" } } },
      },
      { a: {}, b: {} },
      { a: [], b: [] },
    ],
    "an object, which stays one": [
      Type.Object({ map: Type.Record(Type.String(), Type.String()), any: Type.Unknown() }),
      { map: {}, any: {} },
      { map: {}, any: {} },
    ],
    "an object that would also do as an array": [
      { properties: { a: { anyOf: [{ type: "array" }, { type: "object" }] } } },
      { a: {} },
      { a: {} },
    ],
  };
  for (const [title, [schema, given, expected]] of Object.entries(right)) {
    test(`is ${title}`, async () => {
      const before = structuredClone(given);
      assert.deepEqual(await checked(schema, given), expected);
      assert.deepEqual(given, before, "what was given is not changed");
    });
  }

  test("leaves what else is wrong to be told", async () => {
    const schema = Type.Object({ tags: Type.Array(Type.String()), n: Type.Integer() });
    const refused = async (given: unknown, message: string): Promise<void> =>
      assert.rejects(checked(schema, given), { code: "bad_config", message });
    await refused({ tags: {}, n: "x" }, 'one: n must be integer, not "x"');
    await refused({ tags: { a: 1 }, n: 1 }, 'one: tags must be array, not {"a":1}');
    await refused({ tags: [], n: {} }, "one: n must be integer, not {}");
    const least = Type.Object({ tags: Type.Array(Type.String(), { minItems: 1 }) });
    await assert.rejects(checked(least, { tags: {} }), {
      message: "one: tags must NOT have fewer than 1 items",
    });
  });

  test("is an array for a Standard Schema, too, if that has it right", async () => {
    const standard: StandardSchemaV1 = {
      "~standard": {
        version: 1,
        vendor: "test",
        validate(value) {
          const { list, other } = value as { list: unknown; other: unknown };
          const issues = [];
          if (!Array.isArray(list)) issues.push({ message: "no list", path: ["list"] });
          if (other !== 1) issues.push({ message: "not 1", path: [{ key: "other" }] });
          return issues.length > 0 ? { issues } : { value };
        },
      },
    };
    assert.deepEqual(await checked(standard, { list: {}, other: 1 }), { list: [], other: 1 });
    await assert.rejects(checked(standard, { list: {}, other: {} }), {
      message: "one: list: no list; other: not 1",
    });
  });

  test("is none of a JSON text's", async () => {
    const schema = Type.Object({ tags: Type.Array(Type.String()) });
    await assert.rejects(checkText(plugin(schema), '{"tags":{}}'), {
      message: "one: tags must be array, not {}",
    });
  });
});

test("a configuration's maps have what was configured, and nothing of Object's", async () => {
  const keys = Type.Object({ keys: Type.Record(Type.String(), Type.String()) });
  const conf = (await checkConfig(plugin(keys), { keys: { k1: "ann" } })) as {
    keys: Record<string, string | undefined>;
  };
  assert.equal(conf.keys["k1"], "ann");
  for (const name of ["constructor", "toString", "__proto__", "hasOwnProperty"]) {
    assert.equal(conf.keys[name], undefined, name);
  }
});
