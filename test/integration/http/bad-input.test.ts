/** Requests that no client should send, and clients that leave: a clear answer or close, nothing leaked. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import { until } from "../../support/deadline.js";
import type { Nginx } from "../../support/nginx.js";
import { keptOf, untilNothingKept, withPlugins } from "../../support/plugins.js";

const mirror = `
  import { definePlugin } from "resty-ts";
  export default definePlugin({
    name: "mirror",
    async content(ctx) {
      const { request } = ctx;
      const body = await request.bytes();
      return Response.json({
        method: request.method, uri: request.uri, path: request.path, url: request.url.href,
        version: request.httpVersion, bytes: body.length, fields: [...request.headers],
        cookies: request.cookies, query: [...request.query],
      });
    },
  });`;

const waits = `
  import { definePlugin } from "resty-ts";
  let waiting = 0;
  let aborted = 0;
  export default definePlugin({
    name: "waits",
    async content(ctx) {
      if (ctx.request.path === "/aborted") return ctx.exit(200, String(aborted));
      if (ctx.request.path === "/waiting") return ctx.exit(200, String(waiting));
      waiting++;
      await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve));
      aborted++;
      throw ctx.signal.reason;
    },
  });`;

const locations = {
  "/": `
    client_body_buffer_size 16k;
    content_by_lua_block { require("resty.ts.http").content("mirror") }`,
  "/waits": `content_by_lua_block { require("resty.ts.http").content("waits") }`,
  "/waiting": `content_by_lua_block { require("resty.ts.http").content("waits") }`,
  "/aborted": `content_by_lua_block { require("resty.ts.http").content("waits") }`,
};
const server = `
  lua_check_client_abort on;
  client_header_timeout 2s;
  client_body_timeout 2s;
  large_client_header_buffers 4 64k;`;

interface Seen {
  method: string;
  uri: string;
  path: string;
  url: string;
  version: string;
  bytes: number;
  fields: [string, string][];
  cookies: Record<string, string>;
  query: [string, string][];
}

/** Sends bytes as they are; the whole answer, "" when the connection was only closed. */
function raw(nginx: Nginx, request: string | Buffer): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(nginx.port!, "127.0.0.1");
    const pieces: Buffer[] = [];
    socket.on("data", (piece: Buffer) => pieces.push(piece));
    socket.on("error", () => undefined); // a reset is an answer, too: what came before it counts
    socket.on("close", () => {
      resolve(Buffer.concat(pieces).toString("latin1"));
    });
    socket.write(typeof request === "string" ? Buffer.from(request, "latin1") : request);
  });
}

const statusOf = (answer: string): number => Number(/^HTTP\/\S+ (\d+)/.exec(answer)?.[1] ?? 0);

function seenIn(answer: string): Seen {
  assert.equal(statusOf(answer), 200, answer.slice(0, 400));
  const json = /\{.*\}/s.exec(answer)![0];
  return JSON.parse(Buffer.from(json, "latin1").toString("utf8")) as Seen;
}

function withMirror(body: (nginx: Nginx) => Promise<void>, allowLog: RegExp[] = []): Promise<void> {
  return withPlugins({ mirror, waits }, { locations, server, allowLog }, async (nginx) => {
    await body(nginx);
    // The worker is up, and as it was.
    assert.equal(seenIn(await raw(nginx, get("/fine"))).path, "/fine");
    await untilNothingKept(nginx);
  });
}

const get = (target: string, fields = ""): string =>
  `GET ${target} HTTP/1.1\r\nHost: a.example\r\n${fields}Connection: close\r\n\r\n`;
const chunked = (body: string): string =>
  `POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n${body}`;

describe("requests that are odd", () => {
  test("paths that are no UTF-8, escaped and raw", () =>
    withMirror(async (nginx) => {
      const escaped = seenIn(await raw(nginx, get("/a%ff%FEb?x=%ff")));
      assert.equal(escaped.uri, "/a%ff%FEb?x=%ff");
      assert.equal(escaped.path, "/a\ufffd\ufffdb");
      const bytes = seenIn(await raw(nginx, get("/a\xff\xfeb")));
      assert.equal(bytes.uri, "/a%FF%FEb");
      assert.equal(seenIn(await raw(nginx, get("/%C3%A9"))).path, "/é");
    }));

  test("escapes that nginx and a plugin may read differently", () =>
    withMirror(async (nginx) => {
      for (const target of [
        "/a%2Fb",
        "/a?",
        "/a?b&c=",
        "/a//b/../c?d=/../e",
        "/a/%2e%2e/x",
        "/a;b=c",
      ]) {
        const seen = seenIn(await raw(nginx, get(target)));
        assert.equal(seen.uri, target);
      }
      assert.equal(statusOf(await raw(nginx, get("/../../etc"))), 400);
      assert.equal(statusOf(await raw(nginx, get("/a%00b"))), 400);
      assert.equal(statusOf(await raw(nginx, get("/a%zz"))), 400);
    }));

  test("an absolute target, an odd Host, old versions", () =>
    withMirror(async (nginx) => {
      const absolute = seenIn(await raw(nginx, get("http://other.example/x?y")));
      assert.equal(absolute.uri, "/x?y");
      const odd = seenIn(await raw(nginx, "GET /x HTTP/1.0\r\nHost: a_b.~x!\r\n\r\n"));
      assert.equal(odd.version, "1.0");
      assert.match(odd.url, /\/x$/);
      assert.equal(seenIn(await raw(nginx, "GET /none HTTP/1.0\r\n\r\n")).path, "/none");
    }));

  test("fields of any bytes, repeated, empty and very many", () =>
    withMirror(async (nginx) => {
      const many = Array.from({ length: 600 }, (_, i) => `X-${String(i % 300)}: v${String(i)}\r\n`);
      const seen = seenIn(await raw(nginx, get("/many", many.join(""))));
      assert.equal(seen.fields.filter(([name]) => /^X-\d/.test(name)).length, 600);
      const bytes = seenIn(
        await raw(nginx, get("/bytes", "X-Bytes: \xff\xe9 \tx\r\nX-Empty:\r\n")),
      );
      assert.deepEqual(
        bytes.fields.filter(([name]) => name.startsWith("X-")),
        [
          ["X-Bytes", "\u00ff\u00e9 \tx"],
          ["X-Empty", ""],
        ],
      );
      const cookies = "Cookie: a=1; b=%zz; a=2\r\nCookie: __proto__=x; c=3\r\n";
      const { cookies: read } = seenIn(await raw(nginx, get("/c", cookies)));
      assert.equal(read["a"], "1");
      assert.equal(read["b"], "%zz");
      assert.equal(read["c"], "3");
      const large = `X-Large: ${"y".repeat(60_000)}\r\n`;
      assert.equal(seenIn(await raw(nginx, get("/l", large))).fields.at(-2)?.[1].length, 60_000);
      const tooLarge = `X-Large: ${"y".repeat(70_000)}\r\n`;
      assert.equal(statusOf(await raw(nginx, get("/l", tooLarge))), 400);
    }));

  test("as many fields as nginx takes are all carried, more are refused", () =>
    withMirror(async (nginx) => {
      const lines = (count: number): string =>
        Array.from({ length: count }, (_, i) => `X-${String(i)}: v\r\n`).join("");
      const { fields } = seenIn(await raw(nginx, get("/many", lines(900))));
      assert.equal(fields.length, 902);
      // Debian's nginx refuses them; one that does not has 1,000 carried, and a line in the log.
      assert.equal(statusOf(await raw(nginx, get("/many", lines(1100)))), 400);
    }));

  test("methods that are none, and none known", () =>
    withMirror(async (nginx) => {
      assert.equal(
        seenIn(await raw(nginx, get("/m").replace("GET", "PROPPATCH"))).method,
        "PROPPATCH",
      );
      assert.equal(
        seenIn(await raw(nginx, get("/m").replace("GET", "FROBNICATE"))).method,
        "FROBNICATE",
      );
      assert.equal(statusOf(await raw(nginx, get("/m").replace("GET", "g\u00e9t"))), 400);
    }));

  for (const [title, body] of Object.entries({
    "a chunk size that is no number": "xyz\r\nabc\r\n0\r\n\r\n",
    "a chunk longer than it says": "2\r\nabcdef\r\n0\r\n\r\n",
    "a chunk size beyond all sense": "fffffffffffffffff\r\nabc\r\n",
    "a negative chunk size": "-5\r\nabc\r\n0\r\n\r\n",
  })) {
    test(`a body with ${title} is answered with 400 or closed`, () =>
      withMirror(
        async (nginx) => {
          const status = statusOf(await raw(nginx, chunked(body)));
          assert.ok(status === 400 || status === 0, `status ${String(status)}`);
        },
        [/client sent invalid chunked body/],
      ));
  }

  test("a body that ends before its length is a timeout, and nothing is kept", () =>
    withMirror(async (nginx) => {
      const request = "POST /short HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc";
      const status = statusOf(await raw(nginx, request));
      assert.ok(status === 408 || status === 0, `status ${String(status)}`);
    }));
});

describe("clients that leave", () => {
  const connectTo = (nginx: Nginx): Socket => {
    const socket = connect(nginx.port!, "127.0.0.1");
    socket.on("error", () => undefined); // leaving is what the test does
    return socket;
  };

  test("while the body is on its way", () =>
    withMirror(async (nginx) => {
      for (let i = 0; i < 20; i++) {
        const socket = connectTo(nginx);
        await new Promise<void>((resolve) => {
          const head = "POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
          socket.write(head + "x".repeat(50_000), () => {
            resolve();
          });
        });
        socket.destroy();
      }
    }));

  test("while a handler waits: its signal aborts", () =>
    withMirror(async (nginx) => {
      const sockets = Array.from({ length: 20 }, () => {
        const socket = connectTo(nginx);
        socket.write(get("/waits"));
        return socket;
      });
      await until("all of them wait", async () => (await nginx.ask("/waiting")).text === "20");
      for (const socket of sockets) socket.destroy();
      await until(
        "all handlers were told",
        async () => (await nginx.ask("/aborted")).text === "20",
      );
      assert.equal((await keptOf(nginx)).runs, 0);
    }));
});
