import assert from "node:assert/strict";
import { test } from "node:test";
import { testPlugin } from "resty-ts/testing";
import hello from "../src/plugins/hello.ts";

test("greets whom the request names", async () => {
  const kit = await testPlugin(hello, { greeting: "Welcome" });
  const { response } = await kit.request({ url: "/?name=Ada" });
  assert.equal(response.status, 200);
  assert.deepEqual(response.json(), { text: "Welcome, Ada!" });
  assert.equal(response.headers.get("x-served-by"), "hello");
  await kit.close();
});

test("refuses an empty greeting", async () => {
  await assert.rejects(testPlugin(hello, { greeting: "" }), { code: "bad_config" });
});
