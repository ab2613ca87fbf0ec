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

describe("a body filter that lets failures pass, and fails at its third piece", () => {
  const failing = (name: string, result: string): string =>
    plugin(`name: "${name}",
      bodyFilter(ctx) {
        const pieces = (ctx.local.get("pieces") ?? 0) + 1;
        ctx.local.set("pieces", pieces);
        if (pieces === 3) throw new Error("enough");
        ${result}
      },`);
  const plugins = {
    looker: failing("looker", ""),
    upper: failing("upper", "return Buffer.from(ctx.chunk).toString().toUpperCase();"),
    neighbour: plugin(`name: "neighbour", priority: 1,
      bodyFilter(ctx) { return "." + Buffer.from(ctx.chunk).toString(); },`),
  };
  const options = {
    allowLog: [/resty\.ts: /, /failed to run body_filter_by_lua/],
    initWorker: `
      local chain = require("resty.ts.http").chain
      chains = { chain { { "looker" } }, chain { { "upper" } }, chain { { "neighbour" }, { "looker" } } }`,
    locations: Object.fromEntries(
      ["looker", "upper", "both"].map((name, i) => [
        `= /${name}`,
        phase("body_filter", `chains[${String(i + 1)}]:body_filter()`) +
          phase(
            "content",
            `for _, c in ipairs { "a", "b", "c", "d" } do ngx.print(c) ngx.flush(true) end`,
          ),
      ]),
    ),
  };

  test("is let pass when it has changed nothing", () =>
    withPlugins(plugins, options, async (nginx) => {
      assert.equal((await nginx.ask("/looker")).text, "abcd");
      await nginx.waitForLog(/looker, body_filter, .*enough.*\(let pass\)/s);
    }));

  test("cuts the connection when it has changed a part of the body", () =>
    withPlugins(plugins, options, async (nginx) => {
      await assert.rejects(nginx.ask("/upper"));
      await nginx.waitForLog(/upper, body_filter, .*enough/);
      await nginx.waitForLog(/the connection is cut, .*a part of the body was changed before/);
    }));

  test("does not spoil what another plugin changes", () =>
    withPlugins(plugins, options, async (nginx) => {
      assert.match((await nginx.ask("/both")).text, /^\.a\.b\.c\.d\.?$/);
    }));
});
