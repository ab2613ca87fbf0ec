/** Several chains that filter one body: each has all of it, chunk by chunk, after the one before. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { phase, plugin } from "../../support/plugin-phases.js";
import { withPlugins } from "../../support/plugins.js";

/** Adds its mark, and at the end how many chunks it has seen. */
const marking = (name: string, mark: string): string =>
  plugin(`name: "${name}",
    bodyFilter(ctx) {
      const seen = (ctx.local.get("${name}") ?? 0) + (ctx.chunk.length > 0 ? 1 : 0);
      ctx.local.set("${name}", seen);
      const text = Buffer.from(ctx.chunk).toString();
      return (text && "${mark}" + text + "${mark}") + (ctx.last ? "${mark}" + seen : "");
    },`);

describe("two chains that filter a body", () => {
  test("have each chunk once, in their order", () =>
    withPlugins(
      { first: marking("first", "<"), second: marking("second", ">") },
      {
        locations: {
          "/": `
            ${phase(
              "body_filter",
              `
              local http = require("resty.ts.http")
              http.body_filter("first")
              http.body_filter("second")`,
            )}
            ${phase("content", `for i = 1, 3 do ngx.print(i) ngx.flush(true) end`)}`,
        },
      },
      async (nginx) => {
        for (let round = 0; round < 3; round++) {
          const { text } = await nginx.ask("/");
          assert.equal(text, "><1<>><2<>><3<>><3>>4");
        }
      },
    ));
});
