/** A plugin's JSON Schema as APISIX's validator takes it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Type } from "@sinclair/typebox";
import { apisixSchema } from "../../../src/cli/apisix/schema.ts";

function schemaOf(given: object) {
  const problems: string[] = [];
  const schema = apisixSchema(given, "schema", problems);
  return { schema, problems };
}

const withProperty = (property: object | boolean) => ({
  type: "object",
  properties: { a: property },
});

describe("a schema for APISIX", () => {
  test("of draft 7 goes through as it is, boolean schemas included", () => {
    const given = {
      type: "object",
      properties: {
        a: { type: "string", pattern: "^a+$", minLength: 1, format: "ipv4", description: "…" },
        b: { type: "array", items: [{ type: "integer" }, true], additionalItems: false },
        c: { anyOf: [{ const: 1 }, { enum: ["x", 2, true] }], default: { prefixItems: [1] } },
        d: true,
        e: false,
        f: { if: { required: ["x"] }, then: { required: ["y"] }, else: { not: {} } },
        "g'~2": { contains: { type: "string" }, uniqueItems: true },
      },
      patternProperties: { "^x-": { multipleOf: 0.5, exclusiveMinimum: 0 } },
      dependencies: { a: ["b"], b: { required: ["c"] } },
      additionalProperties: false,
      required: ["a"],
    };
    assert.deepEqual(schemaOf(given), { schema: given, problems: [] });
  });

  test("has none of TypeBox's marks, and no $schema or $id", () => {
    const given = Type.Object(
      { id: Type.String({ $id: "inner" }), $schema: Type.Optional(Type.String()) },
      { $id: "https://example.org/a", $schema: "http://json-schema.org/draft-07/schema#" },
    );
    assert.deepEqual(schemaOf(given), {
      schema: {
        type: "object",
        properties: { id: { type: "string" }, $schema: { type: "string" } },
        required: ["id"],
      },
      problems: [],
    });
  });

  test("does not require what has a default, except where none is filled in", () => {
    const inner = {
      type: "object",
      properties: { b: { default: null }, c: { type: "string" } },
      required: ["b", "c"],
    };
    const { schema, problems } = schemaOf({
      type: "object",
      properties: { a: { type: "number", default: 1 }, inner, tried: { anyOf: [inner] } },
      required: ["a"],
    });
    assert.deepEqual(problems, []);
    assert.deepEqual(schema, {
      type: "object",
      properties: {
        a: { type: "number", default: 1 },
        inner: { ...inner, required: ["c"] },
        tried: { anyOf: [inner] },
      },
    });
  });

  test("says what its validator takes otherwise in another way", () => {
    const given = withProperty({ items: true, propertyNames: true, required: [], minItems: 1 });
    assert.deepEqual(schemaOf(given).schema, withProperty({ minItems: 1 }));
  });

  test("keeps references within it, by name, by pointer, and to itself", () => {
    const named = { $id: "Name", type: "string" };
    const { schema, problems } = schemaOf({
      $id: "root",
      type: "object",
      $defs: { Name: named, "a/b c": { type: "null" } },
      properties: {
        a: { $ref: "Name" },
        b: { $ref: "#/$defs/a~1b%20c" },
        c: { $ref: "#" },
        d: { $ref: "root#/properties/a" },
        e: { anyOf: [{ type: "number" }] },
        f: { $ref: "#/properties/e/anyOf/0" },
      },
    });
    assert.deepEqual(problems, []);
    assert.deepEqual(schema["properties"], {
      a: { $ref: "#/$defs/Name" },
      b: { $ref: "#/$defs/a~1b%20c" },
      c: { $ref: "#" },
      d: { $ref: "#/properties/a" },
      e: { anyOf: [{ type: "number" }] },
      f: { $ref: "#/properties/e/anyOf/0" },
    });
    const tree = Type.Recursive((Self) => Type.Object({ children: Type.Array(Self) }));
    assert.deepEqual(schemaOf(Type.Object({ tree })), {
      schema: {
        type: "object",
        properties: {
          tree: {
            type: "object",
            properties: { children: { type: "array", items: { $ref: "#/properties/tree" } } },
            required: ["children"],
          },
        },
        required: ["tree"],
      },
      problems: [],
    });
  });

  const at = "schema#/properties/a: ";
  const refused: [title: string, property: object, problem: RegExp][] = [
    [
      "a reference out of it",
      { $ref: "https://example.org/x" },
      /\$ref .* leads out of the schema/,
    ],
    ["a reference to nothing", { $ref: "#/definitions/x" }, /leads out of the schema/],
    ["unevaluatedProperties", { unevaluatedProperties: false }, /does not know unevaluatedProp/],
    ["prefixItems", { prefixItems: [] }, /does not know prefixItems: use an array in items/],
    ["dependentRequired", { dependentRequired: { a: ["b"] } }, /use dependencies/],
    ["$dynamicRef", { $dynamicRef: "#x" }, /does not know \$dynamicRef/],
    ["minContains", { minContains: 2 }, /does not know minContains/],
    ["propertyNames", { propertyNames: { maxLength: 1 } }, /does not know propertyNames/],
    ["then: false", { then: false }, /passes over then: false/],
    ["null in an enum", { enum: ["a", null] }, /fails on null in an enum: say anyOf/],
    ["null in a default", { default: { x: [null] } }, /fails on null within a default/],
    ["$id in a default", { default: { $id: "x" } }, /fails on \$id within default/],
    ["]] in a pattern", { pattern: "[^\\]]" }, /fails on "\]\]" in a pattern: say \\x5d/],
    ["\\u in a pattern", { pattern: "\\u00e9" }, /takes PCRE, which has no \\u/],
    ["a property that is a number", { properties: { 404: {} } }, /the name "404" in properties/],
    ["a property with an escape", { properties: { "a%41": {} } }, /the name "a%41" in properties/],
    ["a property $id", { properties: { $id: {} } }, /a property with the name \$id/],
    ["' in patternProperties", { patternProperties: { "it's": {} } }, /say \\x27/],
    ["a boolean in dependencies", { dependencies: { a: true } }, /dependencies\.a: true: use a/],
    ["' in dependencies", { dependencies: { a: ["it's"] } }, /fails on "'" in dependencies\.a/],
  ];
  for (const [title, property, problem] of refused) {
    test(`with ${title} is refused, with the place and a cure`, () => {
      const { problems } = schemaOf(withProperty(property));
      assert.equal(problems.length, 1, problems.join("\n"));
      assert.ok(problems[0]?.startsWith(at), problems[0]);
      assert.match(problems[0] ?? "", problem);
    });
  }

  test("that is deep has its problems told with the whole path", () => {
    const deep = {
      items: [{}, { allOf: [{ patternProperties: { "^/~": { prefixItems: [] } } }] }],
    };
    const { problems } = schemaOf(withProperty(deep));
    const path = "schema#/properties/a/items/1/allOf/0/patternProperties/^~1~0: ";
    assert.deepEqual(
      problems.map((problem) => problem.startsWith(path)),
      [true],
    );
  });

  test("is of an object, and leaves _meta to APISIX", () => {
    assert.match(schemaOf({ type: "array" }).problems.join(), /its type is "array"/);
    const { problems } = schemaOf({ properties: { _meta: {} } });
    assert.match(problems.join(), /^schema#\/properties\/_meta: the name is APISIX's own/);
  });
});
