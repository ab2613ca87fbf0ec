/** Response fields that Lua, plugins and the upstream set beside each other. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { withPlugins } from "../../support/plugins.js";

const cookies = (name: string, rest = "") => `
  import { definePlugin } from "resty-ts";
  export default definePlugin({
    name: "${name}",
    access(ctx) {
      ctx.response.headers.append("set-cookie", "${name}=1");
      ${rest}
    },
  });`;

describe("a field that is appended before the header is there", () => {
  const plugins = {
    first: cookies("first"),
    second: cookies("second"),
    answers: cookies(
      "answers",
      `return new Response("", { headers: [["set-cookie", "a=1"], ["set-cookie", "b=2"]] });`,
    ),
  };
  const before = `
    rewrite_by_lua_block { ngx.header["Set-Cookie"] = "lua=1" }`;

  test("stands beside Lua's and other plugins'", () =>
    withPlugins(
      plugins,
      {
        locations: {
          "/": `${before}
            access_by_lua_block {
                local http = require("resty.ts.http")
                http.access("first")
                http.access("second")
            }
            content_by_lua_block { ngx.print("ok") }`,
        },
      },
      async (nginx) => {
        const { headers } = await nginx.ask("/");
        assert.deepEqual(headers["set-cookie"], ["lua=1", "first=1", "second=1"]);
      },
    ));

  test("stands beside the cookies of a Response", () =>
    withPlugins(
      plugins,
      {
        locations: {
          "/": `${before}
            access_by_lua_block { require("resty.ts.http").access("answers") }`,
        },
      },
      async (nginx) => {
        const { headers } = await nginx.ask("/");
        assert.deepEqual(headers["set-cookie"], ["lua=1", "answers=1", "a=1", "b=2"]);
      },
    ));
});
