/** examples/plugins/request-validation: an OpenAPI document, and schemas in the configuration. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { describeGateway, type GatewayReply } from "../../support/gateway.js";

const PET = {
  type: "object",
  properties: {
    name: { type: "string", minLength: 1 },
    age: { type: "integer", minimum: 0 },
    tags: { type: "array", items: { $ref: "#/components/schemas/Tag" } },
  },
  required: ["name"],
  additionalProperties: false,
};

const OPENAPI = {
  openapi: "3.1.0",
  info: { title: "pets", version: "1" },
  paths: {
    "/pets": {
      get: {
        parameters: [
          { name: "limit", in: "query", schema: { type: "integer", minimum: 1, maximum: 100 } },
          { name: "tag", in: "query", schema: { $ref: "#/components/schemas/Tags" } },
          { $ref: "#/components/parameters/Trace" },
        ],
      },
      post: {
        requestBody: {
          required: true,
          content: { "application/json": { schema: { $ref: "#/components/schemas/Pet" } } },
        },
      },
    },
    "/pets/{id}": {
      parameters: [
        { name: "id", in: "path", required: true, schema: { type: "string", format: "uuid" } },
      ],
      get: {},
    },
    "/pets/mine": { get: {} },
  },
  components: {
    parameters: {
      Trace: {
        ...{ name: "X-Trace", in: "header", required: true },
        schema: { type: "string", pattern: "^[0-9a-f]{8}$" },
      },
    },
    schemas: {
      Pet: PET,
      Tag: { type: "string", enum: ["cat", "dog"] },
      Tags: { type: "array", items: { $ref: "#/components/schemas/Tag" } },
    },
  },
};

interface Problem {
  status: number;
  title: string;
  detail: string;
  errors?: { in: string; pointer: string; detail: string }[];
}

const validate = (conf: string, upstream: string): string => `
  client_body_buffer_size 8k;
  access_by_lua_block { require("resty.ts.http").access("request-validation", ${conf}) }
  proxy_pass ${upstream};`;

describeGateway(
  "request-validation",
  () => ({
    files: { "conf/openapi.json": JSON.stringify(OPENAPI) },
    locations: ({ upstream }) => ({
      "/v1/": validate(
        `{ openapiFile = ngx.config.prefix() .. "conf/openapi.json", basePath = "/v1",
           maxBodyBytes = 100000 }`,
        upstream.url,
      ),
      "/plain": validate(
        `{ body = { type = "object", required = { "n" }, properties = { n = { type = "number" } } },
           query = { type = "object", required = { "q" } },
           headers = { type = "object", properties = { ["x-count"] = { type = "integer" } } } }`,
        upstream.url,
      ),
      "/bad": validate(`{ query = { type = "no such type" } }`, upstream.url),
    }),
    allowLog: [/schema is invalid/],
  }),
  (gateway, client) => {
    const post = (path: string, body: string | Buffer, type = "application/json") =>
      client.ask(path, { method: "POST", headers: { "content-type": type }, body });
    const problemOf = (reply: GatewayReply, status = 400): Problem => {
      assert.equal(reply.status, status, reply.text);
      assert.equal(reply.headers["content-type"], "application/problem+json");
      const problem = reply.json<Problem>();
      assert.equal(problem.status, status);
      return problem;
    };
    const trace = { "x-trace": "0123abcd" };

    test("a body as described reaches the upstream as it was sent", async () => {
      const body = '{ "name": "Minka",\n  "tags": ["cat"] }';
      const reply = await post("/v1/pets", body, "application/json; charset=utf-8");
      assert.equal(reply.status, 200, reply.text);
      assert.equal(reply.json()["body"], body);
    });

    test("each fault of a body is named with its path", async () => {
      const before = gateway().upstream.seen.length;
      const body = JSON.stringify({ age: -1, tags: ["cat", "cow"], colour: "red" });
      const problem = problemOf(await post("/v1/pets", body));
      const places = problem.errors?.map((error) => `${error.in} ${error.pointer}`).sort();
      assert.deepEqual(places, ["body /age", "body /colour", "body /name", "body /tags/1"]);
      assert.equal(gateway().upstream.seen.length, before, "the upstream did not see it");
    });

    test("a body's number is no string that looks like one", async () => {
      const problem = problemOf(await post("/v1/pets", '{"name":"a","age":"3"}'));
      assert.deepEqual(problem.errors, [
        { in: "body", pointer: "/age", detail: "must be integer" },
      ]);
    });

    test("a body that is no JSON, not there, or of another type", async () => {
      assert.equal(problemOf(await post("/v1/pets", "{")).errors?.[0]?.detail, "must be JSON");
      assert.equal(
        problemOf(await client.ask("/v1/pets", { method: "POST" })).errors?.[0]?.detail,
        "must be there",
      );
      problemOf(await post("/v1/pets", "name=a", "application/x-www-form-urlencoded"), 415);
    });

    test("a body that nginx keeps in a file is checked, too", async () => {
      const tags = Array.from({ length: 5000 }, () => "cat");
      const body = JSON.stringify({ name: "a", tags });
      assert.ok(body.length > 16_384);
      assert.equal((await post("/v1/pets", body)).json()["body"], body);
      const wrong = JSON.stringify({ name: "a", tags: [...tags, "cow"] });
      assert.equal(problemOf(await post("/v1/pets", wrong)).errors?.[0]?.pointer, "/tags/5000");
    });

    test("a body above the limit is answered with 413", async () => {
      problemOf(await post("/v1/pets", JSON.stringify({ name: "a".repeat(100_000) })), 413);
    });

    test("query arguments and fields are text, and have the types of their schemas", async () => {
      const good = await client.ask("/v1/pets?limit=10&tag=cat&tag=dog", { headers: trace });
      assert.equal(good.status, 200, good.text);
      assert.equal((await client.ask("/v1/pets?tag=cat", { headers: trace })).status, 200);
      const problem = problemOf(
        await client.ask("/v1/pets?limit=many&tag=cow", { headers: { "x-trace": "?" } }),
      );
      assert.deepEqual(problem.errors?.map((error) => `${error.in} ${error.pointer}`).sort(), [
        "headers /x-trace",
        "query /limit",
        "query /tag/0",
      ]);
      assert.equal(problemOf(await client.ask("/v1/pets")).errors?.[0]?.pointer, "/x-trace");
    });

    test("paths with parameters, and those that are more exact", async () => {
      const id = "123e4567-e89b-12d3-a456-426614174000";
      assert.equal((await client.ask(`/v1/pets/${id}`)).status, 200);
      assert.equal((await client.ask("/v1/pets/mine")).status, 200);
      const problem = problemOf(await client.ask("/v1/pets/7"));
      assert.deepEqual(
        problem.errors?.map((error) => error.pointer),
        ["/id"],
      );
    });

    test("what is not described is 404, and another method 405", async () => {
      problemOf(await client.ask("/v1/people"), 404);
      const reply = await client.ask("/v1/pets", { method: "DELETE" });
      problemOf(reply, 405);
      assert.equal(reply.headers["allow"], "GET, POST");
    });

    test("the Host field says nothing of path and query", async () => {
      for (const host of ["x#", "x?limit=10&z=", "x\\y", "u:p@x", "[::1]:8080"]) {
        const headers = { ...trace, host };
        const pointers = (reply: GatewayReply): unknown =>
          problemOf(reply).errors?.map(({ pointer }) => pointer);
        const wrong = await client.ask("/v1/pets?limit=many", { headers });
        assert.deepEqual(pointers(wrong), ["/limit"], host);
        assert.deepEqual(pointers(await client.ask("/v1/pets/7?x#", { headers })), ["/id"], host);
        assert.equal((await client.ask("/v1/pets?limit=10", { headers })).status, 200, host);
        problemOf(await client.ask("/v1/people", { headers }), 404);
      }
    });

    test("schemas may stand in the configuration", async () => {
      const good = await client.ask("/plain?q=1", {
        method: "POST",
        headers: { "content-type": "application/json", "x-count": "3" },
        body: '{"n":1.5}',
      });
      assert.equal(good.status, 200, good.text);
      const bad = await client.ask("/plain", {
        method: "POST",
        headers: { "content-type": "application/json", "x-count": "three" },
        body: "{}",
      });
      const places = problemOf(bad).errors?.map((error) => `${error.in} ${error.pointer}`);
      assert.deepEqual(places, ["query /q", "headers /x-count", "body /n"]);
    });

    test("a schema that is none is a configuration that is refused", async () => {
      assert.equal((await client.ask("/bad")).status, 500);
    });
  },
);
