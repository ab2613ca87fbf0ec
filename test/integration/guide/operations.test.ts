/** docs/operations.md: the location that it shows answers as it says. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../../support/deadline.js";
import { withNginx } from "../../support/nginx.js";
import { blocksOf, readDoc } from "./markdown.js";

const [location] = blocksOf(readDoc("operations.md")).filter(
  ({ language }) => language === "nginx",
);

test("docs/operations.md: /health is 200 when Node is ready, and 503 when it is not", async () => {
  const server = location?.text ?? "";
  assert.match(server, /location = \/health/);
  const locations = { "= /stop": `content_by_lua_block { require("resty.ts").stop() }` };
  await withNginx({ ts: {}, server, locations }, async (nginx) => {
    await until("ready", async () => (await nginx.ask("/health")).status === 200, 10_000);
    assert.match((await nginx.ask("/health")).text, /^ready/);
    await nginx.ask("/stop");
    const { status, text } = await nginx.ask("/health");
    assert.equal(status, 503);
    assert.match(text, /^stopped/);
  });
});
