/** Fields in nginx beyond the cases of test/kit: bytes that Node's own HTTP refuses, and nginx's own. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { until } from "../../support/deadline.js";
import type { NginxOptions } from "../../support/nginx.js";
import { withPlugins } from "../../support/plugins.js";
import { rawAsk, rawRequest, rawResponses, RawUpstream, respond } from "../../support/raw.js";

// Of nginx 1.29, and of Debian's older ones.
const COUNTS_HEADERS = execFileSync("sh", ["-c", 'grep -c max_headers "$(command -v nginx)" || :'])
  .toString()
  .trim();
const HEADER_BUFFERS = `
  large_client_header_buffers 16 64k;
  ${COUNTS_HEADERS === "0" ? "" : "max_headers 100000;"}`;

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

const edits = (phase: string, code: string, more = ""): string => `
  import { definePlugin } from "resty-ts";
  export default definePlugin({
    name: "edits",
    ${more}
    ${phase}(ctx) { const { request, response } = ctx; ${code} },
  });`;
const ACCESS = `access_by_lua_block { require("resty.ts.http").access("edits") }`;
const FILTER = `header_filter_by_lua_block { require("resty.ts.http").header_filter("edits") }`;

const CLOSE = "\r\nConnection: close\r\n\r\n";

/** The lines of a head, but for the first. */
const linesOf = (head: string): string[] => head.split("\r\n").slice(1);

describe("fields of a request", () => {
  let upstream: RawUpstream;
  before(async () => (upstream = await RawUpstream.start(() => respond("x"))));
  after(() => upstream.stop());

  /** What the upstream gets of a request with these fields; and the whole answer. */
  async function sent(
    code: string,
    fields: readonly string[],
    more = "",
  ): Promise<{ lines: string[]; answer: string }> {
    upstream.seen.length = 0;
    const locations = {
      "/": `${ACCESS} ${more} proxy_set_header Host $http_host; proxy_pass ${upstream.url};`,
    };
    return withPlugins(
      { edits: edits("access", code) },
      { locations, http: HEADER_BUFFERS, allowLog: [/resty\.ts/] },
      async (nginx) => {
        const bytes = rawRequest("GET /", { fields: [...fields, "Connection: close"] });
        const answer = await rawAsk(nginx.port!, bytes);
        return { lines: linesOf(upstream.seen[0]?.head ?? ""), answer };
      },
    );
  }
  const kept = (lines: readonly string[]): string[] =>
    lines.filter((line) => !/^(Host|Connection):/.test(line));

  test("are sent with their control characters, and empty ones", async () => {
    const { lines } = await sent(
      `request.headers.set("X-Control", request.headers.get("x-given") + "\\u007f%01");
       request.headers.append("Accept-Encoding", "br");
       request.headers.set("X-Empty", "");
       request.headers.set("User-Agent", "");`,
      ["X-Given: a\x01\xa0", "Accept-Encoding: gz\x02ip"],
    );
    assert.deepEqual(kept(lines), [
      "X-Given: a\x01\xa0",
      "Accept-Encoding: gz\x02ip, br",
      "X-Control: a\x01\xa0\x7f%01",
      "X-Empty: ",
      "User-Agent: ",
    ]);
  });

  test("are all seen: the 5,000th is deleted", async () => {
    const many = Array.from({ length: 4999 }, (_, i) => `X-${String(i)}: v`);
    const { lines } = await sent(`request.headers.delete("x-role");`, [...many, "X-Role: admin"]);
    assert.deepEqual(kept(lines), many);
  });

  test("that are more than can be counted are refused", async () => {
    const many = Array.from({ length: 65_600 }, () => `a:`);
    const { answer } = await sent(`request.headers.delete("x-role");`, [...many, "X-Role: admin"]);
    assert.match(answer, /^HTTP\/1\.1 431 /);
    assert.equal(upstream.seen.length, 0);
  });
});

describe("fields of a response", () => {
  /** The lines that the client gets of it. */
  function got(
    plugin: string,
    location: string,
    options: NginxOptions = {},
    target = "/",
  ): Promise<string[]> {
    return withPlugins(
      { edits: plugin },
      { ...options, locations: { "/": location } },
      async (nginx) => {
        const bytes = rawRequest(`GET ${target}`, { fields: ["Connection: close"] });
        return linesOf(rawResponses(await rawAsk(nginx.port!, bytes))[0]!.head);
      },
    );
  }
  const names = (lines: readonly string[]): string[] => lines.map((line) => line.split(":", 1)[0]!);
  const fromUpstream = async (
    plugin: string,
    location: string,
    ...fields: string[]
  ): Promise<string[]> => {
    const upstream = await RawUpstream.start(() => respond("x", ...fields));
    try {
      return await got(plugin, `${location} proxy_pass ${upstream.url};`);
    } finally {
      await upstream.stop();
    }
  };

  test("are seen as they came, repeated ones apart", async () => {
    const lines = await fromUpstream(
      edits(
        "headerFilter",
        `response.headers.set("X-Seen", JSON.stringify([...response.headers]));`,
      ),
      FILTER,
      ...["X-A: 1", "x-b: 2", "X-A: 3", 'ETag: "e"', "x-a: 4", "Content-Type: text/html", "x_u: 5"],
    );
    const seen = lines.find((line) => line.startsWith("X-Seen: "))!.slice("X-Seen: ".length);
    assert.deepEqual(JSON.parse(seen), [
      ["Content-Type", "text/html"],
      ["Content-Length", "1"],
      ["X-A", "1"],
      ["x-b", "2"],
      ["X-A", "3"],
      ["ETag", '"e"'],
      ["x-a", "4"],
      ["x_u", "5"],
    ]);
  });

  for (const [phase, blocks] of [
    ["headerFilter", FILTER],
    ["access", `${ACCESS} ${FILTER}`],
  ] as const) {
    const deletes = edits(
      phase,
      `for (const name of ["server", "date", "last-modified", "etag", "x-lua"]) {
         response.headers.delete(name);
       }`,
    );

    test(`that nginx has of its own are deleted in ${phase}`, async () => {
      const lines = await got(
        deletes,
        `${blocks} root html;`,
        {
          files: { "html/page.txt": "text" },
        },
        "/page.txt",
      );
      // nginx adds Accept-Ranges after all filters of Lua's.
      const left = ["Content-Type", "Content-Length", "Connection", "Accept-Ranges"];
      assert.deepEqual(names(lines), left);
    });

    test(`that Lua has set are deleted in ${phase}`, async () => {
      const lines = await got(
        deletes,
        `${blocks} rewrite_by_lua_block { ngx.header["X-Lua"] = { "1", "2" } ngx.header["X-B"] = 3 }
         content_by_lua_block { ngx.exit(204) }`,
      );
      assert.deepEqual(names(lines), ["Connection", "X-B"]);
    });
  }

  test("that Lua has set are seen before there is a response", async () => {
    const show = `response.headers.set("X-Seen", JSON.stringify([...response.headers]));`;
    const lines = await got(
      edits("access", show),
      `${ACCESS} rewrite_by_lua_block {
         ngx.header["X-Lua"] = { "1", "2" } ngx.header["Content-Type"] = "text/x-lua"
       }
       content_by_lua_block { ngx.print("x") }`,
    );
    assert.ok(
      lines.includes('X-Seen: [["Content-Type","text/x-lua"],["X-Lua","1"],["X-Lua","2"]]'),
      lines.join("\n"),
    );
  });

  test("of a static file are seen", async () => {
    const show = `response.headers.set("X-Seen", String(response.headers.get("last-modified")));`;
    const lines = await got(
      edits("headerFilter", show),
      `${FILTER} root html;`,
      { files: { "html/page.txt": "text" } },
      "/page.txt",
    );
    const [modified] = lines.filter((line) => line.startsWith("Last-Modified: "));
    assert.ok(modified !== undefined && modified.length > 20, lines.join("\n"));
    assert.ok(lines.includes(modified.replace("Last-Modified", "X-Seen")), lines.join("\n"));
  });

  test("are found when the worker's first request was malformed", () =>
    withPlugins(
      {
        edits: edits(
          "headerFilter",
          `response.headers.delete("x_secret"); response.headers.set("x_own", "1");`,
        ),
      },
      {
        server: `header_filter_by_lua_block {
          if ngx.status == 400 or ngx.var.uri == "/own" then
              ngx.header["X-B"] = "b"
              require("resty.ts.http").header_filter("edits")
          end
        }`,
        locations: { "/own": `add_header x_later 1; return 204;` },
      },
      async (nginx) => {
        for (const bytes of ["BAD\r\n\r\n", "GET /own HTTP/1.0\r\n\r\n", rawRequest("GET /own")]) {
          const answer = await rawAsk(nginx.port!, bytes.replace("\r\n\r\n", CLOSE));
          const lines = linesOf(answer.split("\r\n\r\n", 1)[0]!);
          assert.ok(lines.includes("X-B: b") && lines.includes("x_own: 1"), answer);
        }
      },
    ));

  test("that cannot be deleted late, for want of a header filter, are told of", () =>
    withPlugins(
      { edits: edits("access", `response.headers.delete("x-page");`) },
      {
        locations: {
          "/": `${ACCESS} content_by_lua_block { ngx.header["X-Page"] = 1 ngx.print("x") }
            log_by_lua_block { require("resty.ts.http").log("edits") }`,
        },
        allowLog: [/resty\.ts/],
      },
      async (nginx) => {
        await nginx.ask("/");
        await until("the log tells of it", () =>
          /edits, log, .*are sent as they came: x-page \(run/.test(nginx.errorLog()),
        );
      },
    ));

  test("that are deleted before stay deleted on an error page", async () => {
    const lines = await got(
      edits("access", `response.headers.delete("x-page"); response.headers.delete("server");`),
      `${ACCESS} ${FILTER} error_page 404 = @page; content_by_lua_block { ngx.exit(404) } }
       location @page { ${FILTER} add_header X-Page 1 always; add_header X-Other 2 always;
         return 404 "gone";`,
    );
    assert.ok(!names(lines).includes("Server"), lines.join("\n"));
  });
});

describe("ctx.setUpstream", () => {
  for (const host of ["::1", "[::1]", "127.0.0.1"]) {
    test(`connects to ${host}`, async () => {
      const server = createServer((_, response) => response.end("over it"));
      await new Promise<void>((resolve) => server.listen(0, host.replace(/[[\]]/g, ""), resolve));
      const { port } = server.address() as AddressInfo;
      try {
        await withPlugins(
          { edits: edits("access", `ctx.setUpstream("${host}", ${String(port)});`) },
          {
            http: `upstream chosen {
              server 0.0.0.1;
              balancer_by_lua_block { require("resty.ts.http").balancer() }
            }`,
            locations: { "/": `${ACCESS} proxy_pass http://chosen;` },
          },
          async (nginx) => assert.equal((await nginx.ask("/")).text, "over it"),
        );
      } finally {
        server.close();
      }
    });
  }
});
