/** One request, and what each sees of it: the client's, Lua's and TypeScript's changes in their order. */
import assert from "node:assert/strict";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { describeGateway, type GatewayReply } from "../../support/gateway.js";

const PLUGINS = join(dirname(fileURLToPath(import.meta.url)), "plugins");

/** What Lua sees of the request, as one line of JSON. */
const LUA_SEES = `
  local function lua_sees()
      local headers = ngx.req.get_headers()
      return require("cjson").encode {
          method = ngx.req.get_method(), uri = ngx.var.uri, args = ngx.var.args,
          new = headers["x-new"], list = headers["x-list"], kept = headers["x-kept"],
          old = tostring(headers["x-old"]), picked = ngx.var.picked,
          user = ngx.ctx.user and ngx.ctx.user.name .. table.concat(ngx.ctx.user.roles),
      }
  end`;

interface LuaSaw {
  method: string;
  uri: string;
  args: string;
  new: string;
  list: string[];
  kept: string[];
  old: string;
  picked: string;
  user: string;
}

const CHANGED: LuaSaw = {
  method: "PUT",
  uri: "/new path/café",
  args: "b=2&c=%26%20x",
  new: "by TypeScript",
  list: ["1", "2"],
  kept: ["as it was", "and more"],
  old: "nil",
  picked: "blue",
  user: "adaab",
};

/** A field of a response is bytes: Lua's UTF-8. */
const fieldJson = (reply: GatewayReply, name: string): unknown =>
  JSON.parse(Buffer.from(reply.headers[name] ?? "null", "latin1").toString("utf8"));

const laterLua = `
  header_filter_by_lua_block {
    ${LUA_SEES}
    ngx.header["x-lua-filter"] = lua_sees()
    ngx.header["x-lua"] = "Lua"
    require("resty.ts.http").header_filter("changes")
    ngx.header["x-lua-after"] = ngx.header["x-typescript"]
  }
  log_by_lua_block {
    ${LUA_SEES}
    ngx.log(ngx.NOTICE, "log saw ", ngx.var.http_x_run, " ", lua_sees())
  }`;

describeGateway(
  "what each sees of a request",
  () => ({
    ts: { plugins: PLUGINS },
    http: () => `map $uri $other { default "by a map"; }`,
    locations: ({ upstream }) => {
      upstream.on("/new%20path/caf%C3%A9", (request, response, body) => {
        response.setHeader("x-secret", "of the upstream");
        response.end(JSON.stringify({ ...request.headers, url: request.url, body: String(body) }));
      });
      return {
        "/access": `
          set $picked "";
          access_by_lua_block {
            ${LUA_SEES}
            require("resty.ts.http").access("changes", {})
            ngx.req.read_body()
            ngx.req.set_header("x-lua-access", lua_sees())
            ngx.req.set_header("x-lua-body", ngx.req.get_body_data())
          }
          ${laterLua}
          proxy_pass ${upstream.url};`,
        "/rewrite": `
          set $picked "";
          rewrite_by_lua_block { require("resty.ts.http").rewrite("changes", { phase = "rewrite" }) }
          access_by_lua_block {
            ${LUA_SEES}
            ngx.req.read_body()
            ngx.req.set_header("x-lua-access", lua_sees())
            ngx.req.set_header("x-lua-body", ngx.req.get_body_data())
          }
          ${laterLua}
          proxy_pass ${upstream.url};`,
        "/lua-first": `
          set $tag "of the configuration";
          rewrite_by_lua_block {
            ngx.req.read_body()
            ngx.req.set_method(ngx.HTTP_PUT)
            ngx.req.set_uri("/by lua/é", false)
            ngx.req.set_uri_args("l=1&m=a%20b")
            ngx.req.set_header("X-From-Lua", "caf\\195\\169")
            ngx.req.set_header("X-List", { "1", "2" })
            ngx.req.clear_header("x-old")
            ngx.req.set_body_data("Lua's body")
            ngx.ctx.lua = { n = 1.5, list = { "a", "b" }, deep = { yes = true } }
            ngx.var.tag = "of Lua"
          }
          access_by_lua_block { require("resty.ts.http").access("reports") }
          proxy_pass ${upstream.url};`,
      };
    },
  }),
  (gateway, client) => {
    let runs = 0;
    const ask = (path: string): { run: string; reply: Promise<GatewayReply> } => {
      const run = `${client.protocol.replaceAll(/\W/g, "")}${path.slice(1)}${runs++}`;
      const reply = client.ask(`${path}?a=1`, {
        method: "POST",
        headers: {
          ...{ "content-type": "application/json", "x-run": run },
          ...{ "x-old": "to be deleted", "x-kept": "as it was" },
        },
        body: JSON.stringify({ items: ["one"] }),
      });
      return { run, reply };
    };

    for (const phase of ["access", "rewrite"]) {
      test(`the upstream sees what TypeScript changed in ${phase}`, async () => {
        const { run, reply } = ask(`/${phase}`);
        assert.equal((await reply).status, 200);
        const seen = gateway().upstream.seen.find(({ headers }) => headers["x-run"] === run);
        assert.ok(seen);
        assert.equal(seen.method, "PUT");
        assert.equal(seen.url, "/new%20path/caf%C3%A9?b=2&c=%26%20x");
        assert.equal(seen.headers["x-new"], "by TypeScript");
        assert.equal(seen.headers["x-list"], "1, 2");
        assert.equal(seen.headers["x-kept"], "as it was, and more");
        assert.equal(seen.headers["x-old"], undefined);
        assert.equal(seen.body, '{"items":["one","ü"]}');
        assert.equal(seen.headers["content-length"], String(Buffer.byteLength(seen.body)));
      });

      test(`Lua that runs later sees what TypeScript changed in ${phase}`, async () => {
        const { run, reply: answer } = ask(`/${phase}`);
        const reply = await answer;
        const seen = gateway().upstream.seen.find(({ headers }) => headers["x-run"] === run);
        const utf8 = (value: string | undefined): string =>
          Buffer.from(value ?? "", "latin1").toString("utf8");
        assert.deepEqual(JSON.parse(utf8(seen?.headers["x-lua-access"])), CHANGED);
        assert.equal(utf8(seen?.headers["x-lua-body"]), '{"items":["one","ü"]}');
        assert.deepEqual(fieldJson(reply, "x-lua-filter"), CHANGED, "the header filter");
        const [, text] = await gateway().nginx.waitForLog(new RegExp(`log saw ${run} (\\{.*?\\})`));
        assert.deepEqual(JSON.parse(text ?? ""), CHANGED, "the log phase");
      });

      test(`header filters of Lua and TypeScript see each other, after ${phase}`, async () => {
        const reply = await ask(`/${phase}`).reply;
        assert.equal(reply.headers["x-early"], "set in access");
        assert.equal(reply.headers["x-typescript"], "ada after Lua");
        assert.equal(reply.headers["x-lua-after"], "ada after Lua");
        assert.equal(reply.headers["x-secret"], undefined);
      });
    }

    test("TypeScript sees what Lua changed before it", async () => {
      const reply = await ask("/lua-first").reply;
      const { headers, ...seen } = reply.json<Record<string, unknown> & { headers: string[][] }>();
      assert.deepEqual(seen, {
        method: "PUT",
        uri: "/by%20lua/%C3%A9?l=1&m=a%20b",
        originalUri: "/lua-first?a=1",
        path: "/by lua/é",
        query: { l: "1", m: "a b" },
        body: "Lua's body",
        lua: { n: 1.5, list: ["a", "b"], deep: { yes: true } },
        tag: "of Lua",
        other: "by a map",
        scheme: client.protocol === "HTTP/1.1" ? "http" : "https",
        httpVersion: client.protocol === "HTTP/1.1" ? "1.1" : "2.0",
      });
      const fields = headers.map(([name, value]) => `${name?.toLowerCase() ?? ""}: ${value ?? ""}`);
      assert.ok(fields.includes("x-from-lua: cafÃ©"), "bytes, one a character");
      assert.deepEqual(
        fields.filter((field) => field.startsWith("x-list")),
        ["x-list: 1", "x-list: 2"],
      );
      assert.ok(!fields.some((field) => field.startsWith("x-old")));
    });
  },
);
