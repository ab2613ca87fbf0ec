/** Responses that plugins make of fetched ones: in nginx, with both runtimes, and in the testing kit. */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import * as zlib from "node:zlib";
import { testPlugin } from "../../../src/testing/index.ts";
import forwards from "../../kit/plugins/forwards.ts";
import { withNginx } from "../../support/nginx.js";
import { luaLiteral } from "../../support/nginx-config.js";
import { PROJECT_ROOT } from "../../support/project.js";

const TEXT = "/* the origin's text: Brotli's decoder takes its beginning */\n".repeat(3000);
const SHORT = "/* short";
const OWN = "the plugin's own text, ".repeat(100);

/** A frame of one block that is not compressed: RFC 8878, 3.1.1. */
function zstd(text: string): Buffer {
  const head = Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 0x20, text.length, 0, 0, 0]);
  head.writeUIntLE((text.length << 3) | 1, 6, 3);
  return Buffer.concat([head, Buffer.from(text)]);
}

/** What the origin answers at /NAME: Content-Encoding and bytes. */
const answers: Readonly<Record<string, readonly [string, Buffer]>> = {
  gzip: ["gzip", zlib.gzipSync(TEXT)],
  deflate: ["deflate", zlib.deflateSync(TEXT)],
  br: ["br", zlib.brotliCompressSync(TEXT)],
  "short-br": ["BR", zlib.brotliCompressSync(SHORT)],
  both: ["deflate, gzip", zlib.gzipSync(zlib.deflateSync(TEXT))],
  // fetch decodes it once.
  file: ["gzip", zlib.gzipSync(zlib.gzipSync(TEXT))],
  zstd: ["zstd", zstd(SHORT)],
  other: ["x-other", Buffer.from(TEXT)],
  plain: ["", Buffer.from(TEXT)],
  empty: ["gzip", Buffer.alloc(0)],
};

const plainOf: Readonly<Record<string, string>> = {
  "short-br": SHORT,
  zstd: SHORT,
  file: zlib.gzipSync(TEXT).toString("latin1"),
  empty: "",
};

/** As a client does it. */
function decode(coding: string, bytes: Buffer): string {
  const decoded: Record<string, () => Buffer> = {
    gzip: () => zlib.gunzipSync(bytes),
    deflate: () => (bytes[0] === 0x78 ? zlib.inflateSync(bytes) : zlib.inflateRawSync(bytes)),
    br: () => zlib.brotliDecompressSync(bytes),
    zstd: () => bytes.subarray(9),
  };
  return (decoded[coding]?.() ?? bytes).toString("latin1");
}

interface Got {
  readonly status: number;
  field(name: string): string | null;
  readonly body: Buffer;
}

type Ask = (path: string, method?: "HEAD") => Promise<Got>;

const FETCHED = ["returned", "copied", "cloned", "twice", "text", "piped", "compressed"];
/** Of what a plugin has piped or read, only the bytes are known. */
const UNKNOWN = new Set(["piped br", "piped short-br", "text file", "piped file"]);

function suite(ask: Ask): void {
  for (const how of FETCHED) {
    for (const name of Object.keys(answers)) {
      if (UNKNOWN.has(`${how} ${name}`)) continue;
      // It compresses what fetch has not decoded.
      if (how === "compressed" && (name === "zstd" || name === "other")) continue;
      // Text, which is no compressed bytes.
      if (how === "text" && ["zstd", "file"].includes(name)) continue;
      test(`what the client decodes is what the origin said: ${how}, ${name}`, async () => {
        const got = await ask(`/${how}/${name}`);
        assert.equal(got.status, 200);
        const text = decode(got.field("content-encoding") ?? "", got.body);
        assert.ok(text === (plainOf[name] ?? TEXT), text.slice(0, 100));
        assert.equal(got.field("x-origin"), "1");
        assert.equal(got.field("x-named"), null);
        if (how === "compressed") assert.equal(got.field("content-encoding"), "gzip");
      });
    }
  }

  const own: Record<string, string> = {
    "own-gzip": "gzip",
    "own-deflate": "deflate",
    "own-deflate-raw": "deflate",
    "own-br": "br",
    "own-other": "x-own",
    "own-stream-gzip": "gzip",
    "own-stream-br": "br",
  };
  for (const [how, coding] of Object.entries(own)) {
    test(`what a plugin has encoded itself stays so: ${how}`, async () => {
      const got = await ask(`/${how}`);
      assert.equal(got.status, 200);
      assert.equal(got.field("content-encoding"), coding);
      assert.equal(decode(coding, got.body), OWN);
    });
  }

  test("a Content-Encoding that is not the body's is left out", async () => {
    const got = await ask("/not-gzip");
    assert.equal(got.field("content-encoding"), null);
    assert.equal(got.body.toString(), OWN);
  });

  test("hop-by-hop fields of a Response, and those that its Connection names, are left out", async () => {
    const got = await ask("/hop-by-hop");
    assert.equal(got.status, 200);
    assert.equal(got.body.toString(), OWN);
    assert.equal(got.field("x-kept"), "1");
    for (const name of ["x-named", "proxy-connection", "te", "trailer", "upgrade"]) {
      assert.equal(got.field(name), null, name);
    }
    assert.doesNotMatch(got.field("keep-alive") ?? "", /timeout=5/);
  });

  for (const how of ["returned", "copied"]) {
    test(`a HEAD's answer says nothing of a coding that GET's has not: ${how}`, async () => {
      const got = await ask(`/${how}/gzip`, "HEAD");
      assert.equal(got.status, 200);
      assert.equal(got.body.length, 0);
      assert.equal(got.field("x-origin"), "1");
      assert.notEqual(got.field("content-length"), String(answers["gzip"]![1].length));
    });
  }
}

describe("Responses made of fetched ones", () => {
  let server: Server;
  let origin = "";

  before(async () => {
    server = createServer((request, response) => {
      const [coding, bytes] = answers[request.url!.slice(1)]!;
      response.writeHead(200, {
        "X-Origin": "1",
        Connection: "keep-alive, X-Named",
        "X-Named": "1",
        "Content-Length": bytes.length,
        ...(coding === "" ? {} : { "Content-Encoding": coding }),
      });
      response.end(bytes);
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    origin = `http://127.0.0.1:${String((server.address() as AddressInfo).port)}`;
  });
  after(() => {
    server.closeAllConnections();
    server.close();
  });

  describe("in the testing kit", () => {
    suite(async (path, method) => {
      const kit = await testPlugin(forwards, { origin });
      const { response, errors } = await kit.request({ url: path, method: method ?? "GET" });
      await kit.close();
      assert.deepEqual(errors, []);
      const { status, headers, body } = response;
      return { status, field: (name) => headers.get(name), body: Buffer.from(body) };
    });
  });

  for (const runtime of ["embedded", "process"]) {
    describe(`in nginx, ${runtime}`, () => {
      let ask: Ask;
      let stop = (): void => undefined;
      let stopped: Promise<void>;

      before(async () => {
        const conf = luaLiteral({ origin });
        await new Promise<void>((started, failed) => {
          stopped = withNginx(
            {
              ts: { runtime, plugins: join(PROJECT_ROOT, "test/kit/plugins") },
              locations: {
                "/": `access_by_lua_block { require("resty.ts.http").access("forwards", ${conf}) }`,
              },
            },
            async (nginx) => {
              ask = async (path, method) => {
                const { status, headers, body } = await nginx.ask(path, {
                  method: method ?? "GET",
                });
                return { status, field: (name) => headers[name]?.toString() ?? null, body };
              };
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
      suite((path, method) => ask(path, method));
    });
  }
});
