/** Requests that plugins hand on by fetch, and applications that answer them, with both runtimes. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import { connect as connectHttp2 } from "node:http2";
import { type AddressInfo, connect, type Socket } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { testPlugin } from "../../../src/testing/index.ts";
import hono from "../../kit/plugins/hono.ts";
import { until } from "../../support/deadline.js";
import { findPort, type Nginx, withNginx } from "../../support/nginx.js";
import { luaLiteral } from "../../support/nginx-config.js";
import { PROJECT_ROOT } from "../../support/project.js";

const LARGE = "0123456789".repeat(30_000);

/** What the origin got. */
interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

let server: Server;
let origin = "";
/** Requests at /waits/ that the origin has not answered. */
let waiting = 0;

before(async () => {
  server = createServer((request, response) => {
    const { method, url, headers } = request;
    if (url!.startsWith("/waits/")) {
      waiting++;
      response.on("close", () => waiting--);
      return;
    }
    let body = "";
    request.setEncoding("utf8").on("data", (piece: string) => (body += piece));
    request.on("end", () => response.end(JSON.stringify({ method, url, headers, body })));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  origin = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function open(nginx: Nginx, head: string, body: string): Socket {
  const socket = connect(nginx.port!, "127.0.0.1");
  socket.write(`${head}\r\nHost: a.example\r\nConnection: close\r\n\r\n${body}`);
  return socket;
}

/** The whole of a response, to a request head without its last fields. */
async function exchange(nginx: Nginx, head: string, body = ""): Promise<string> {
  let text = "";
  for await (const part of open(nginx, head, body) as AsyncIterable<Buffer>)
    text += part.toString();
  return text;
}

function bodyOf(reply: string): string {
  const [head, ...rest] = reply.split("\r\n\r\n");
  const text = rest.join("\r\n\r\n");
  if (!/^transfer-encoding: chunked/im.test(head!)) return text;
  return text.replace(/[\da-f]+\r\n([^\r]*)\r\n(?:\r\n)?/g, "$1");
}

const chunked = (body: string): string => `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;

interface Relay {
  readonly what: string;
  readonly head: readonly string[];
  readonly body?: string;
  readonly want: Partial<Omit<Seen, "headers">>;
  /** Fields that the origin gets; null: that it does not. */
  readonly fields?: Readonly<Record<string, string | null>>;
}

const CLOSE = { expect: null, upgrade: null, te: null, trailer: null, "keep-alive": null };
const relays: readonly Relay[] = [
  {
    what: "a chunked upload",
    head: ["POST /forward/a?b=%20 HTTP/1.1", "Transfer-Encoding: chunked", "X-A: 1"],
    body: chunked("chunks"),
    want: { method: "POST", url: "/forward/a?b=%20", body: "chunks" },
    fields: { "x-a": "1", "transfer-encoding": "chunked", "content-length": null },
  },
  {
    what: "a large chunked upload",
    head: ["PUT /forward HTTP/1.1", "Transfer-Encoding: chunked"],
    body: chunked(LARGE),
    want: { method: "PUT", body: LARGE },
  },
  {
    what: "a large upload",
    head: ["PUT /forward HTTP/1.1", `Content-Length: ${LARGE.length}`],
    body: LARGE,
    want: { method: "PUT", body: LARGE },
    fields: { "content-length": String(LARGE.length), "transfer-encoding": null },
  },
  {
    what: "Expect",
    head: ["POST /forward HTTP/1.1", "Expect: 100-continue", "Content-Length: 4"],
    body: "body",
    want: { method: "POST", body: "body" },
    fields: { expect: null, "content-length": "4" },
  },
  {
    what: "Upgrade, and fields that Connection names",
    head: [
      "GET /forward HTTP/1.1",
      "Upgrade: websocket",
      "Connection: upgrade, X-Named",
      "X-Named: 1",
      "TE: trailers",
      "Trailer: x",
      "Keep-Alive: timeout=1",
      "Proxy-Connection: close",
    ],
    want: { method: "GET", body: "" },
    fields: { ...CLOSE, "x-named": null, "proxy-connection": null },
  },
  {
    what: "DELETE with a body",
    head: ["DELETE /forward HTTP/1.1", "Content-Length: 4"],
    body: "body",
    want: { method: "DELETE", body: "body" },
    fields: { "content-length": "4" },
  },
  {
    what: "DELETE without a body",
    head: ["DELETE /forward HTTP/1.1"],
    want: { method: "DELETE", body: "" },
    fields: { "content-length": null, "transfer-encoding": null },
  },
  {
    what: "POST with an empty body",
    head: ["POST /forward HTTP/1.1", "Content-Length: 0"],
    want: { method: "POST", body: "" },
    fields: { "content-length": "0", "transfer-encoding": null },
  },
  {
    what: "GET with a body, which Fetch has not",
    head: ["GET /forward HTTP/1.1", "Content-Length: 4"],
    body: "body",
    want: { method: "GET", body: "" },
    fields: { "content-length": null, "transfer-encoding": null },
  },
  {
    what: "OPTIONS",
    head: ["OPTIONS /forward HTTP/1.1", "Origin: http://b.example"],
    want: { method: "OPTIONS", body: "" },
    fields: { origin: "http://b.example", "transfer-encoding": null },
  },
  {
    what: "a body that was read before",
    head: ["POST /again HTTP/1.1", "Transfer-Encoding: chunked"],
    body: chunked("once more"),
    want: { body: "once more" },
  },
  {
    what: "a body that was set",
    head: ["POST /replaced HTTP/1.1", "Content-Length: 4"],
    body: "body",
    want: { body: "r\u00e9placed" },
    fields: { "content-length": "9" },
  },
  {
    what: "a body that was emptied",
    head: ["POST /emptied HTTP/1.1", "Transfer-Encoding: chunked"],
    body: chunked("body"),
    want: { body: "" },
    fields: { "content-length": "0", "transfer-encoding": null },
  },
];

for (const runtime of ["embedded", "process"]) {
  describe(`requests that are handed on, ${runtime}`, () => {
    let nginx: Nginx;
    let http2Port = 0;
    let stop = (): void => undefined;
    let stopped: Promise<void>;

    before(async () => {
      http2Port = await findPort();
      const access = (name: string, conf: string): string =>
        `access_by_lua_block { require("resty.ts.http").access("${name}", ${conf}) }`;
      await new Promise<void>((started, failed) => {
        stopped = withNginx(
          {
            ts: { runtime, plugins: join(PROJECT_ROOT, "test/kit/plugins") },
            server: `lua_check_client_abort on; listen 127.0.0.1:${http2Port} http2;`,
            locations: {
              "/": access("relays", luaLiteral({ origin })),
              "/hono/": `rewrite ^/hono(.*)$ $1 break; ${access("hono", "nil")}`,
            },
            allowLog: [/relays.*(within 1500 ms|deadline)/],
          },
          async (running) => {
            nginx = running;
            started();
            await new Promise<void>((resolve) => (stop = resolve));
          },
        );
        stopped.catch(failed);
      });
    });
    after(async () => {
      stop();
      await stopped;
    });

    for (const { what, head, body, want, fields = {} } of relays) {
      test(`the origin gets ${what}`, async () => {
        const reply = await exchange(nginx, head.join("\r\n"), body);
        // After an Expect comes a 100.
        const final = reply.replace(/^HTTP\/1.1 100[^]*?\r\n\r\n/, "");
        assert.match(final, /^HTTP\/1.1 200/);
        const seen = JSON.parse(/\{"method[^]*\}/.exec(bodyOf(final))![0]) as Seen;
        for (const [key, value] of Object.entries(want)) {
          assert.equal(seen[key as keyof Seen], value, key);
        }
        for (const [name, value] of Object.entries(fields)) {
          assert.equal(seen.headers[name] ?? null, value, name);
        }
      });
    }

    test("HEAD is handed on", async () => {
      assert.match(await exchange(nginx, "HEAD /forward HTTP/1.1"), /^HTTP\/1.1 200[^]*\r\n\r\n$/);
    });

    test("the origin gets a body of HTTP/2, without a length", async () => {
      const session = connectHttp2(`http://127.0.0.1:${http2Port}`);
      const stream = session.request({ ":method": "POST", ":path": "/forward" });
      stream.end("of HTTP/2");
      let text = "";
      for await (const piece of stream as AsyncIterable<Buffer>) text += piece.toString();
      session.close();
      assert.equal((JSON.parse(text) as Seen).body, "of HTTP/2");
    });

    test("the client's leaving aborts the request's signal, and so what it was handed to", async () => {
      const socket = open(nginx, "GET /waits/left HTTP/1.1", "");
      await until("the origin is asked", () => waiting === 1);
      socket.destroy();
      await until("the origin is left", () => waiting === 0);
      assert.deepEqual((await nginx.json<string[]>("/aborted")).slice(0, 1), ["AbortError true"]);
    });

    test("the handler's deadline aborts it", async () => {
      const reply = await exchange(nginx, "GET /waits/late HTTP/1.1");
      assert.match(reply, /^HTTP\/1.1 504/);
      await until("the origin is left", () => waiting === 0);
      assert.deepEqual((await nginx.json<string[]>("/aborted")).slice(1), ["TimeoutError true"]);
    });

    test("an application of Hono answers with a stream of events", async () => {
      const reply = await nginx.ask("/hono/sse");
      assert.equal(reply.status, 200);
      assert.equal(reply.headers["content-type"], "text/event-stream");
      assert.equal(reply.text, [1, 2, 3].map((n) => `data: event ${n}\nid: ${n}\n\n`).join(""));
    });

    test("an application of Hono answers with a stream of text", async () => {
      const reply = await nginx.ask("/hono/text");
      assert.equal(reply.status, 200);
      assert.equal(reply.text, "one\ntwo\nthree\n");
    });

    test("an application of Hono reads a body", async () => {
      const reply = await nginx.ask("/hono/json", { method: "POST", body: '{"a":1}' });
      assert.deepEqual(reply.json<{ got: unknown }>().got, { a: 1 });
      assert.equal(
        bodyOf(await exchange(nginx, "DELETE /hono/gone HTTP/1.1\r\nContent-Length: 1", "x")),
        "DELETE [x]",
      );
    });
  });
}

describe("an application of Hono, in the testing kit", () => {
  test("answers with streams, and reads bodies", async () => {
    const kit = await testPlugin(hono);
    const sse = await kit.request({ url: "/sse" });
    assert.equal(
      sse.response.text(),
      [1, 2, 3].map((n) => `data: event ${n}\nid: ${n}\n\n`).join(""),
    );
    const text = await kit.request({ url: "/text" });
    assert.equal(text.response.text(), "one\ntwo\nthree\n");
    const json = await kit.request({ method: "POST", url: "/json", body: "[1]" });
    assert.deepEqual(json.response.json<{ got: unknown }>().got, [1]);
    const gone = await kit.request({ method: "DELETE", url: "/gone", body: "x" });
    assert.equal(gone.response.text(), "DELETE [x]");
    assert.deepEqual(kit.errors, []);
    await kit.close();
  });
});
