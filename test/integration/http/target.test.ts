/**
 * Path, query and host of a request: whatever the target and the Host field, a plugin reads what nginx
 * routes by, and the upstream gets what was sent, but for the one thing that a plugin has changed.
 */
import assert from "node:assert/strict";
import { connect as connectHttp2 } from "node:http2";
import { describe, test } from "node:test";
import fc from "fast-check";
import { findPort, type Nginx, type NginxOptions, withNginx } from "../../support/nginx.js";
import { decodePath, textOf } from "../../../src/http/target.ts";
import { phase, plugin } from "../../support/plugin-phases.js";
import { rawAsk, rawResponses, RawUpstream, respond } from "../../support/raw.js";

/** What a plugin does: a member of the request, or of its query, and the arguments. */
type Do = readonly [string, ...string[]];

interface Seen {
  readonly uri: string;
  readonly path: string;
  readonly originalUri: string;
  readonly href: string;
  readonly host: string;
  readonly pathname: string;
  readonly query: readonly (readonly [string, string])[];
  readonly fetched: string;
}

const seeing = `
  function see(request) {
    const { uri, path, originalUri, url, query } = request;
    const { href, host, pathname } = url;
    const seen = { uri, path, originalUri, href, host, pathname, query: [...query] };
    if (request.toRequest) seen.fetched = request.toRequest().url;
    return encodeURIComponent(JSON.stringify(seen));
  }`;
const plugins = {
  acts: `${seeing}
    ${plugin(`name: "acts",
      rewrite({ request }) {
        const given = request.headers.get("x-do");
        request.headers.delete("x-do");
        for (const [what, ...args] of JSON.parse(decodeURIComponent(given ?? "[]"))) {
          if (what === "uri" || what === "path" || what === "query") request[what] = args[0];
          else if (what === "more") request.uri += args[0];
          else if (what === "under") request.uri = args[0] + request.uri;
          else if (what === "url") request.url[args[0]] = args[1];
          else if (what === "host") {
            see(request);
            request.headers.set("Host", args[0]);
          } else if (what === "fixed") request[args[0]] = new URL("http://x/");
          else request.query[what](...args);
        }
        request.headers.set("x-seen", see(request));
      },
      access({ request }) { request.headers.set("x-access", see(request)); },
      headerFilter({ request, response }) { response.headers.set("x-filter", see(request)); },`)}`,
  guards: plugin(`name: "guards",
    access(ctx) {
      const { url, query } = ctx.request;
      if (url.pathname.startsWith("/admin") || query.has("admin")) return ctx.exit(403);
      return undefined;
    },`),
  late: `${seeing}
    ${plugin(`name: "late",
      schema: { type: "object" },
      headerFilter({ request, response }, { conf }) {
        try {
          if (conf.part === "query") request.query.set("a", "2");
          else request[conf.part] = "/late";
        } catch (error) {
          response.headers.set("x-error", error.name);
        }
      },`)}`,
};

const acting = ["rewrite", "access", "header_filter"]
  .map((name) => phase(name, `http.${name}("acts")`))
  .join("\n");
const doing = (...all: Do[]): string => `X-Do: ${encodeURIComponent(JSON.stringify(all))}`;

/** Sends a head, and says what came of it. */
async function ask(port: number, line: string, ...fields: string[]) {
  const head = [`GET ${line}`, ...fields, "Connection: close", "", ""].join("\r\n");
  const [response, ...others] = rawResponses(await rawAsk(port, head));
  assert.deepEqual(others, []);
  return response!;
}

const parsed = (text: string | undefined): Seen =>
  JSON.parse(decodeURIComponent(text ?? "null")) as Seen;
const field = (head: string, name: string): string | undefined =>
  new RegExp(`^${name}: *(.*)$`, "im").exec(head)?.[1];

interface Gateway {
  readonly nginx: Nginx;
  readonly upstream: RawUpstream;
  /** What the upstream is asked for, and what plugins saw in the three phases. */
  readonly get: (
    target: string,
    options?: { host?: string; does?: readonly Do[] },
  ) => Promise<{
    status: number;
    sent: string;
    head: string;
    seen: Seen;
    later: Seen;
    last: Seen;
  }>;
}

function withGateway(
  runtime: string,
  options: (upstream: RawUpstream) => NginxOptions,
  body: (gateway: Gateway) => Promise<void>,
): Promise<void> {
  return withUpstream((upstream) => {
    const { locations, ...others } = options(upstream);
    return withNginx(
      {
        ts: { runtime, plugins: "plugins", sync_timeout_ms: 2000 },
        files: Object.fromEntries(
          Object.entries(plugins).map(([name, source]) => [`plugins/${name}.ts`, source]),
        ),
        locations: { "/": `${acting} proxy_pass ${upstream.url};`, ...locations },
        ...others,
      },
      (nginx) =>
        body({
          nginx,
          upstream,
          async get(target, { host = "a.example", does = [] } = {}) {
            upstream.seen.length = 0;
            const fields = [`Host: ${host}`, doing(...does)];
            const response = await ask(nginx.port!, `${target} HTTP/1.1`, ...fields);
            const head = upstream.seen[0]?.head ?? "";
            const [, sent = ""] = /^GET (.*) HTTP/.exec(head) ?? [];
            return {
              ...{ status: response.status, sent, head },
              seen: parsed(field(head, "x-seen")),
              later: parsed(field(head, "x-access")),
              last: parsed(response.fields["x-filter"]),
            };
          },
        }),
    );
  });
}

async function withUpstream(body: (upstream: RawUpstream) => Promise<void>): Promise<void> {
  const upstream = await RawUpstream.start(() => respond("ok", "Connection: close"));
  try {
    await body(upstream);
  } finally {
    await upstream.stop();
  }
}

/** A Host field, and the host that a plugin sees; undefined: nginx answers 400. */
const HOSTS: readonly (readonly [string, string | undefined])[] = [
  ["x#", "localhost"],
  ["x?role=admin&z=", "localhost"],
  ["x\\y", "localhost"],
  ["u:p@x", "u"],
  ["u@x", "localhost"],
  ["x%2fy", "localhost"],
  ["x%23", "localhost"],
  ["127.1", "localhost"],
  ["A.Example:8080", "a.example:8080"],
  ["a.example.", "a.example"],
  ["a.example:", "a.example"],
  ["a.example:99999", "a.example"],
  ["a.example:80:90", "a.example"],
  ["a.example:8o", "a.example"],
  ["[::1]", "[::1]"],
  ["[::1]:8080", "[::1]:8080"],
  ["[::1", "localhost"],
  ["\xc3\xa9", "localhost"],
  ["[", "localhost"],
  ["x/admin", undefined],
  ["a..b", undefined],
  ["", undefined],
];

const edits: readonly (readonly [string, readonly Do[], string])[] = [
  ["/projects/group%2Frepo", [["more", "?t=7"]], "/projects/group%2Frepo?t=7"],
  ["/x%2fy?a=%20+&b&&c=%zz", [["set", "t", "7"]], "/x%2fy?a=%20+&b&&c=%zz&t=7"],
  ["/x%2fy?tenant=1&b", [["set", "tenant", "7"]], "/x%2fy?tenant=7&b"],
  ["/x%2fy?tenant=1&b", [["delete", "tenant"]], "/x%2fy?b"],
  ["/x%2fy?tenant=1", [["delete", "tenant"]], "/x%2fy"],
  ["/x?a=%41&b=1", [["append", "c", "a b&é"]], "/x?a=%41&b=1&c=a+b%26%C3%A9"],
  ["/x?b=%62&a", [["sort"]], "/x?a&b=%62"],
  ["/x?a=1", [["query", ""]], "/x"],
  ["/x%2Fy?a=1", [["query", "?b=%2f"]], "/x%2Fy?b=%2f"],
  ["/x%2Fy?id=%31&c", [["path", "/v2/x"]], "/v2/x?id=%31&c"],
  ["/x?id=1", [["path", "/a b%?#/é"]], "/a%20b%25%3F%23/%C3%A9?id=1"],
  ["/\xc3\xa9%2f?q=\xc3\xa9", [["set", "t", "1"]], "/\xc3\xa9%2f?q=\xc3\xa9&t=1"],
  ["/n?q=\xc3\xa9", [["under", "/up"]], "/up/n?q=%C3%A9"],
  ["/\xc3\xa9", [["under", "/up"]], "/up/%C3%A9"],
  ["/\xe9?\xe9", [["under", "/up"]], "/up/%E9?%E9"],
  ["//a//%2F/x", [["more", "?t"]], "//a//%2F/x?t"],
  ["/a/./b/../c", [["more", "?t"]], "/a/./b/../c?t"],
  ["/a\\b|c", [["more", "?t"]], "/a\\b|c?t"],
  ["/x", [["uri", "/a%2Fb%3B"]], "/a%2Fb%3B"],
  ["/x", [["uri", "/a|b%c3"]], "/a%7Cb%c3"],
  ["/x?", [["path", "/y"]], "/y?"],
  [
    "/x%2F?a",
    [
      ["uri", "/y"],
      ["uri", "/x%2F?a"],
    ],
    "/x%2F?a",
  ],
  [
    "/x%2F?\xff",
    [
      ["path", "/y"],
      ["path", "/x/"],
    ],
    "/x%2F?\xff",
  ],
  [
    "/x%2F?a",
    [
      ["set", "b", "1"],
      ["delete", "b"],
    ],
    "/x%2F?a",
  ],
  [
    "/a%2Fb",
    [
      ["path", "/a/c"],
      ["path", "/a/b"],
    ],
    "/a%2Fb",
  ],
  ["/a%2Fb", [["uri", "/a/b"]], "/a/b"],
];

const piece = fc.constantFrom(
  ..."a b / // . %2F %2f %2e . %5C \\ %25 %3F %23 %3B ; : @ + %61 %C3%A9 %ff | \" < ' ^ admin".split(
    " ",
  ),
  ..."\xc3\xa9 \xff \x80".split(" "),
);
const text = fc.array(piece, { maxLength: 6 }).map((pieces) => pieces.join(""));
const targets = fc
  .tuple(text, fc.option(fc.oneof(text, fc.constantFrom("a=1&b", "&&", "?a=b", "=", "\xff=%zz"))))
  .map(([path, args]) => `/${path}${args === null ? "" : `?${args}`}`);

for (const runtime of ["embedded", "process"] as const) {
  describe(`a request's target, ${runtime}`, () => {
    test("is read whatever the Host field says, and the host is nginx's", () =>
      withGateway(
        runtime,
        () => ({}),
        async ({ get }) => {
          for (const [host, expected] of HOSTS) {
            const { status, seen, later, sent } = await get("/api%2F?admin=1&z", { host });
            assert.equal(status, expected === undefined ? 400 : 200, host);
            if (expected === undefined) continue;
            assert.equal(sent, "/api%2F?admin=1&z", host);
            assert.deepEqual(later, seen, host);
            assert.deepEqual(
              [seen.host, seen.path, seen.pathname, seen.query],
              [
                expected,
                "/api/",
                "/api%2F",
                [
                  ["admin", "1"],
                  ["z", ""],
                ],
              ],
              host,
            );
            assert.equal(seen.fetched, seen.href, host);
            assert.equal(seen.href, `http://${expected}/api%2F?admin=1&z`, host);
          }
        },
      ));

    test("that is absolute says the host, and a request may have none", () =>
      withGateway(
        runtime,
        () => ({ server: "server_name _;" }),
        async ({ get, nginx, upstream }) => {
          for (const [target, host, sent] of [
            ["http://other.example/x?y", "other.example", "/x?y"],
            ["http://Other.Example:8080/x%2F", "other.example", "/x%2F"],
            ["http://other.example?q", "other.example", "/?q"],
            ["https://[::2]:9/x", "[::2]", "/x"],
          ] as const) {
            const found = await get(target);
            assert.deepEqual([found.seen.host, found.seen.uri, found.sent], [host, sent, sent]);
          }
          for (const [version, fields] of [
            ["HTTP/1.0", []],
            ["HTTP/1.0", ["Host: b.example:81"]],
          ] as const) {
            upstream.seen.length = 0;
            const { status } = await ask(nginx.port!, `/x?y ${version}`, ...fields);
            assert.equal(status, 200);
            const { href } = parsed(field(upstream.seen[0]!.head, "x-seen"));
            assert.equal(href, fields.length === 0 ? "http://_/x?y" : "http://b.example:81/x?y");
          }
        },
      ));

    test("of HTTP/2 is read alike", () =>
      findPort().then((port) =>
        withGateway(
          runtime,
          (upstream) => ({
            http: `server {
            listen 127.0.0.1:${String(port)} http2;
            location / { ${acting} proxy_pass ${upstream.url}; }
          }`,
          }),
          async ({ upstream }) => {
            for (const [authority, host] of [
              ["x?role=admin&z=", "localhost"],
              ["b.example:81", "b.example:81"],
            ] as const) {
              upstream.seen.length = 0;
              const session = connectHttp2(`http://127.0.0.1:${String(port)}`);
              await new Promise((resolve, reject) => {
                const stream = session.request({ ":path": "/a%2F?b", ":authority": authority });
                stream.on("response", resolve).on("error", reject).resume().end();
              });
              session.destroy();
              const seen = parsed(field(upstream.seen[0]!.head, "x-seen"));
              assert.equal(seen.href, `http://${host}/a%2F?b`);
            }
          },
        ),
      ));

    test("keeps what is not changed, byte for byte, and later phases see the change", () =>
      withGateway(
        runtime,
        () => ({}),
        async ({ get }) => {
          for (const [target, does, sent] of edits) {
            const found = await get(target, { does });
            const title = `${target} ${JSON.stringify(does)}`;
            assert.equal(found.sent, sent, title);
            assert.deepEqual(found.later, found.seen, title);
            assert.deepEqual({ ...found.last, fetched: found.seen.fetched }, found.seen, title);
            assert.equal(found.seen.originalUri, textOf(target), title);
          }
        },
      ));

    test("is sent as it is spelt by a worker's first request, too, after another change", () =>
      withGateway(
        runtime,
        () => ({}),
        async ({ get }) => {
          const does: Do[] = [
            ["path", "/y"],
            ["uri", "/c%2Fd"],
          ];
          assert.equal((await get("/x", { does })).sent, "/c%2Fd");
        },
      ));

    test("has the host that a plugin sets", () =>
      withGateway(
        runtime,
        () => ({}),
        async ({ get }) => {
          for (const [host, expected] of [
            ["B.example:81", "b.example:81"],
            ["x?a=b#", "localhost"],
          ] as const) {
            const { seen, later } = await get("http://other.example/x?y", {
              does: [["host", host]],
            });
            assert.equal(seen.href, `http://${expected}/x?y`);
            assert.deepEqual(later, seen);
          }
        },
      ));

    test("has the bytes of UTF-8 as text", () =>
      withGateway(
        runtime,
        () => ({}),
        async ({ get }) => {
          const { seen } = await get("/n?q=\xc3\xa9&r=\xff");
          assert.equal(seen.uri, "/n?q=é&r=%FF");
          assert.deepEqual(seen.query, [
            ["q", "é"],
            ["r", "\ufffd"],
          ]);
          assert.equal(seen.href, "http://a.example/n?q=%C3%A9&r=%FF");
        },
      ));

    test("keeps its slashes where nginx does", () =>
      withGateway(
        runtime,
        () => ({ server: "merge_slashes off;" }),
        async ({ get }) => {
          const target = "/ocsp/MF//Q%2Fx%2BA";
          const { seen, sent } = await get(target);
          assert.deepEqual([seen.uri, sent, seen.path], [target, target, "/ocsp/MF//Q/x+A"]);
          assert.equal(seen.pathname, "/ocsp/MF//Q%2Fx+A");
          const changed = await get(target, { does: [["append", "a", "1"]] });
          assert.deepEqual([changed.sent, changed.later.uri], [`${target}?a=1`, `${target}?a=1`]);
        },
      ));

    test("is sent on as without a plugin, or with the one argument more", () =>
      findPort().then((plainPort) =>
        withGateway(
          runtime,
          (upstream) => ({
            http: `server { listen 127.0.0.1:${String(plainPort)}; location / { proxy_pass ${upstream.url}; } }`,
          }),
          async ({ get, upstream }) => {
            await fc.assert(
              fc.asyncProperty(targets, async (target) => {
                upstream.seen.length = 0;
                const plain = await ask(plainPort, `${target} HTTP/1.1`, "Host: a.example");
                const [, expected = ""] = /^GET (.*) HTTP/.exec(upstream.seen[0]?.head ?? "") ?? [];
                const found = await get(target);
                assert.deepEqual([found.status, found.sent], [plain.status, expected]);
                if (plain.status !== 200) return;
                const more = await get(target, { does: [["append", "t", "7"]] });
                const joint = /\?./s.test(target) ? "&" : target.endsWith("?") ? "" : "?";
                assert.equal(more.sent, `${expected}${joint}t=7`);
                assert.equal(more.seen.path, found.seen.path);
                const routed = Buffer.from(decodePath(found.seen.pathname), "latin1");
                assert.equal(routed.toString(), found.seen.path);
              }),
              { numRuns: 150, seed: 17 },
            );
          },
        ),
      ));

    test("goes where proxy_pass says, and $request_uri stays the client's", () =>
      withGateway(
        runtime,
        (upstream) => ({
          locations: {
            "/base/": `${acting} proxy_pass ${upstream.url}/api/;`,
            "/variable/": `${acting} set $up ${upstream.url}; proxy_pass $up;`,
            "/told/": `${acting} proxy_set_header X-Told $request_uri; proxy_pass ${upstream.url};`,
            "/rewritten/": `rewrite ^/rewritten/(.*)$ /$1 break; ${acting} proxy_pass ${upstream.url};`,
          },
        }),
        async ({ get }) => {
          const mapped = await get("/base/a%2Fb?x", { does: [["append", "t", "7"]] });
          assert.equal(mapped.sent, "/api/a/b?x&t=7", "nginx sends the decoded path there");
          const variable = await get("/variable/a%2Fb", { does: [["append", "t", "7"]] });
          assert.equal(variable.sent, "/variable/a%2Fb?t=7");
          const told = await get("/told/a%2Fb", {
            does: [
              ["path", "/told/x"],
              ["append", "t", "7"],
            ],
          });
          assert.equal(told.sent, "/told/x?t=7");
          assert.equal(field(told.head, "x-told"), "/told/a%2Fb");
          const rewritten = await get("/rewritten/a%2Fb?x", { does: [["append", "t", "7"]] });
          assert.equal(rewritten.sent, "/a/b?x&t=7");
          const spelt = await get("/rewritten/a?x", { does: [["uri", "/c%2Fd"]] });
          assert.equal(spelt.sent, "/c%2Fd");
        },
      ));

    test("is in the log as the client sent it, after error_page, too", () =>
      withGateway(
        runtime,
        () => ({
          locations: {
            "/fails/": `${acting} proxy_intercept_errors on; error_page 502 /error;
              proxy_pass http://127.0.0.1:1;`,
            "/error": `internal; ${phase("header_filter", `http.header_filter("acts")`)}
              return 200 "error";`,
          },
          allowLog: [/connect\(\) failed/],
        }),
        async ({ get }) => {
          for (const prefix of ["", "http://b.example"]) {
            const { last } = await get(`${prefix}/fails/a%2Fb?x`, {
              does: [["uri", "/fails/c%2Fd"]],
            });
            assert.deepEqual([last.originalUri, last.path], ["/fails/a%2Fb?x", "/error"]);
          }
        },
      ));

    test("that Lua code changes afterwards is Lua's", () =>
      withGateway(
        runtime,
        (upstream) => ({
          locations: {
            "/lua/": `${phase("rewrite", `http.rewrite("acts") ngx.req.set_uri("/from lua")`)}
              ${phase("access", `http.access("acts")`)} proxy_pass ${upstream.url};`,
          },
        }),
        async ({ get }) => {
          const { later, sent } = await get("/lua/a", { does: [["uri", "/x%2Fy?a=%2F"]] });
          assert.deepEqual([later.uri, later.path, sent], [sent, "/from lua", "/from%20lua?a=%2F"]);
        },
      ));

    test("is guarded by url.pathname and query, however it is spelt and whatever the Host", () =>
      withGateway(
        runtime,
        (upstream) => ({
          locations: {
            "/": `${phase("access", `http.access("guards")`)} proxy_pass ${upstream.url};`,
          },
        }),
        async ({ nginx, upstream }) => {
          for (const target of [
            "/admin/x",
            "/%61dmin/x",
            "//admin/x",
            "/./admin/x",
            "/a/../admin/x",
            "/a/%2e%2e/admin/x",
            "/a/..%2fadmin/x",
            "/%2fadmin/x",
            "/.%2Fadmin/x",
            "http://other.example/admin/x",
            "/api?admin=1",
            "/api?x&%61dmin",
          ]) {
            for (const [host, expected] of HOSTS) {
              const { status } = await ask(nginx.port!, `${target} HTTP/1.1`, `Host: ${host}`);
              assert.equal(status, expected === undefined ? 400 : 403, `${target} of ${host}`);
            }
          }
          assert.deepEqual(upstream.seen, []);
        },
      ));

    test("refuses what cannot be, and what has no effect", () =>
      withGateway(
        runtime,
        () => ({ allowLog: [/acts, rewrite/] }),
        async ({ get, nginx, upstream }) => {
          const refused: readonly Do[] = [
            ["uri", "x"],
            ["uri", "/100%"],
            ["uri", "/../x"],
            ["path", "/../x"],
            ["query", "a b"],
            ["url", "pathname", "/x"],
            ["url", "search", "?x"],
            ["fixed", "url"],
            ["fixed", "originalUri"],
          ];
          for (const one of refused) {
            assert.equal((await get("/a", { does: [one] })).status, 500, one.join(" "));
          }
          assert.deepEqual(upstream.seen, []);
          await nginx.waitForLog(/acts, rewrite, .*ctx\.request\.url cannot be changed/);
        },
      ));

    test("cannot be changed where the upstream has answered", () =>
      withGateway(
        runtime,
        (upstream) => ({
          locations: Object.fromEntries(
            ["uri", "path", "query"].map((part) => [
              `/${part}`,
              `${phase("header_filter", `http.header_filter("late", { part = "${part}" })`)}
               proxy_pass ${upstream.url};`,
            ]),
          ),
        }),
        async ({ nginx }) => {
          for (const part of ["uri", "path", "query"]) {
            const { fields } = await ask(nginx.port!, `/${part} HTTP/1.1`, "Host: a");
            assert.equal(fields["x-error"], "TypeError", part);
          }
        },
      ));
  });
}
