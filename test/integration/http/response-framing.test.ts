/** What goes to the client is framed as HTTP has it, whatever plugins make of bodies. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { gunzipSync, gzipSync } from "node:zlib";
import { type Nginx, withNginx } from "../../support/nginx.js";
import { phase, plugin } from "../../support/plugin-phases.js";
import {
  LAST,
  rawAsk,
  rawRequest,
  type RawRequest,
  type RawResponse,
  rawResponses,
  RawUpstream,
  respond,
} from "../../support/raw.js";

const plugins = {
  adds: plugin(`name: "adds",
    bodyFilter(ctx) {
      const text = Buffer.from(ctx.chunk).toString("latin1").toUpperCase();
      return ctx.last ? text + "!" : text;
    },`),
  delays: plugin(`name: "delays",
    delayedBodyFilter(ctx) { return ctx.last ? Buffer.from(ctx.chunk).toString() + "." : undefined; },`),
  redacts: plugin(`name: "redacts", bufferResponse: { maxBytes: 1000 },
    bodyFilter(ctx) {
      const text = new TextDecoder("utf-8", { fatal: true }).decode(ctx.chunk);
      return JSON.stringify({ ...JSON.parse(text), password: undefined });
    },`),
  sees: plugin(`name: "sees",
    bodyFilter(ctx) { return ctx.chunk.length > 0 ? Buffer.from(ctx.chunk) : undefined; },`),
  swaps: plugin(`name: "swaps",
    bodyFilter(ctx) { return Buffer.from(ctx.chunk).toString().replaceAll("secret", "******"); },`),
  unpacks: plugin(`name: "unpacks", bufferResponse: { maxBytes: 1000 },
    schema: { type: "object" },
    headerFilter(ctx, { conf }) {
      if (conf.how !== "repacks") ctx.response.headers.delete("content-encoding");
    },
    bodyFilter(ctx, { conf }) {
      if (conf.how === "fails") throw new Error("no");
      const text = gunzipSync(ctx.chunk).toString().replace("secret", "unpacked");
      return conf.how === "unpacks" ? text : gzipSync(text);
    },`).replace("\n", '\nimport { gunzipSync, gzipSync } from "node:zlib";\n'),
  packs: plugin(`name: "packs", bufferResponse: { maxBytes: 1000 },
    headerFilter(ctx) { ctx.response.headers.set("content-encoding", "gzip"); },
    bodyFilter(ctx) { return gzipSync(ctx.chunk); },`).replace(
    "\n",
    '\nimport { gzipSync } from "node:zlib";\n',
  ),
  strips: plugin(`name: "strips",
    headerFilter(ctx) { ctx.response.headers.delete("content-encoding"); },`),
  answers: plugin(`name: "answers",
    schema: { type: "object" },
    async access(ctx, { conf }) {
      const { response } = ctx;
      response.headers.set("etag", '"a"');
      switch (ctx.request.uri) {
        case "/fetched": return fetch(conf.url, { method: ctx.request.method });
        case "/null": return new Response(null);
        case "/text": return new Response("12345");
        case "/exit": return ctx.exit(200);
        case "/exit-text": return ctx.exit(200, "12345");
        case "/exit-304": return ctx.exit(304);
        case "/exit-204": return ctx.exit(204);
        case "/stream": return new Response(new ReadableStream({
          async pull(controller) {
            await new Promise((resolve) => setTimeout(resolve));
            this.n = (this.n ?? 0) + 1;
            controller.enqueue(Buffer.from("piece " + this.n + " "));
            if (this.n === 3) controller.close();
          },
        }));
      }
    },`),
};

const USER = JSON.stringify({ password: "secret", user: "ada", filler: "x".repeat(100) });
const CLEAN = JSON.stringify({ user: "ada", filler: "x".repeat(100) });
const gzipped = (text: string): string => gzipSync(text).toString("latin1");
const gunzipped = (bytes: string): string => gunzipSync(Buffer.from(bytes, "latin1")).toString();
const field = (head: string, name: string): string | undefined =>
  new RegExp(`^${name}: *(.*)$`, "im").exec(head)?.[1];

/** Serves parts, and compresses, where it is asked for that. */
function user({ head }: RawRequest): string {
  const tag = 'ETag: "a"';
  const digests = ["Content-MD5", "Digest", "Content-Digest", "Repr-Digest"];
  const range = /bytes=(\d+)-(\d+)/.exec(field(head, "range") ?? "");
  if (range !== null) {
    const part = USER.slice(Number(range[1]), Number(range[2]) + 1);
    const fields = [tag, `Content-Range: bytes ${range[1]!}-${range[2]!}/${String(USER.length)}`];
    return respond(part, ...fields).replace("200 OK", "206 Partial Content");
  }
  if (field(head, "accept-encoding")?.includes("gzip")) {
    return respond(gzipped(USER), tag, "Content-Encoding: gzip");
  }
  return respond(
    USER,
    tag,
    "Content-Type: text/plain",
    "Accept-Ranges: bytes",
    ...digests.map((name) => `${name}: x`),
  );
}

function answer(request: RawRequest): string {
  const { head } = request;
  const path = head.split(" ")[1]!;
  if (path.endsWith("/user")) return user(request);
  if (path.endsWith("/gzip")) return respond(gzipped("the secret"), "Content-Encoding: gzip");
  if (path.endsWith("/hello-in-chunks")) {
    return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
  }
  if (head.startsWith("HEAD ")) return "HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n";
  if (path.endsWith("/204")) return "HTTP/1.1 204 No Content\r\n\r\n";
  if (path.endsWith("/304")) return 'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n';
  return respond("hello", 'ETag: "a"');
}

/** The plugin's filters in nginx's phases, and its access handlers, if there are. */
const filtered = (name: string, conf = "{}", more = ""): string =>
  phase("access", `http.access("${name}", ${conf})`) +
  phase("header_filter", `http.header_filter("${name}") ${more}`) +
  phase("body_filter", `http.body_filter("${name}") http.delayed_body_filter("${name}")`);

async function ask(nginx: Nginx, bytes: string, ...methods: string[]): Promise<RawResponse> {
  const [first, second, ...others] = rawResponses(await rawAsk(nginx.port!, bytes + LAST), methods);
  const line = bytes.slice(0, 60);
  assert.ok(first, line);
  // The connection goes on with the next request's answer, and nothing between.
  assert.equal(second?.status, 204, `${line}: ${JSON.stringify([first, second])}`);
  assert.deepEqual(others, [], line);
  return first;
}

for (const runtime of ["embedded", "process"] as const) {
  const withGateway = (
    locations: (url: string) => Record<string, string>,
    body: (nginx: Nginx, upstream: RawUpstream) => Promise<void>,
  ): Promise<void> => withUpstream(runtime, locations, body);

  describe(`a response without a body, ${runtime}`, () => {
    test("has none, whatever a body filter returns", () =>
      withGateway(
        (url) =>
          Object.fromEntries(
            ["adds", "delays"].flatMap((name): [string, string][] => [
              [`/${name}/`, `${filtered(name)} proxy_pass ${url};`],
              ...["204", "304"].map((status): [string, string] => [
                `= /${name}/set-${status}`,
                `${filtered(name, "{}", `ngx.status = ${status}`)} proxy_pass ${url};`,
              ]),
            ]),
          ),
        async (nginx) => {
          for (const name of ["adds", "delays"]) {
            for (const path of ["204", "304", "set-204", "set-304"]) {
              const got = await ask(nginx, rawRequest(`GET /${name}/${path}`));
              assert.deepEqual([got.status, got.body], [Number(path.slice(-3)), ""]);
            }
            const got = await ask(nginx, rawRequest(`HEAD /${name}/200`), "HEAD");
            assert.equal(got.status, 200);
            assert.equal(got.fields["content-length"], undefined);
          }
        },
      ));

    test("to HEAD has GET's length or none", () =>
      withGateway(
        (url) => ({ "/": phase("access", `http.access("answers", { url = "${url}" })`) }),
        async (nginx) => {
          const lengthOf = async (path: string): Promise<string | undefined> => {
            const got = await ask(nginx, rawRequest(`HEAD ${path}`), "HEAD");
            assert.deepEqual([got.status, got.fields["transfer-encoding"]], [200, undefined]);
            return got.fields["content-length"];
          };
          assert.equal(await lengthOf("/null"), undefined);
          assert.equal(await lengthOf("/exit"), undefined);
          assert.equal(await lengthOf("/stream"), undefined);
          assert.equal(await lengthOf("/text"), "5");
          assert.equal(await lengthOf("/exit-text"), "5");
          assert.ok([undefined, "123456"].includes(await lengthOf("/fetched")));
          for (const path of ["/null", "/exit"]) {
            const got = await ask(nginx, rawRequest(`GET ${path}`));
            assert.equal(got.fields["content-length"], "0");
          }
        },
      ));

    test("that nginx makes 304 of an answer lets the connection go on", () =>
      withGateway(
        (url) => ({
          "/": phase("access", `http.access("answers", { url = "${url}" })`),
        }),
        async (nginx) => {
          for (const path of ["/stream", "/text", "/exit-text", "/exit", "/null"]) {
            for (const method of ["GET", "HEAD"]) {
              const asked = rawRequest(`${method} ${path}`, { fields: ['If-None-Match: "a"'] });
              const got = await ask(nginx, asked, method);
              assert.deepEqual([got.status, got.body], [304, ""], path);
            }
            const got = await ask(nginx, rawRequest(`GET ${path}`));
            assert.deepEqual([got.status, got.cut], [200, false], path);
          }
          for (const path of ["/exit-204", "/exit-304"]) {
            const got = await ask(nginx, rawRequest(`GET ${path}`));
            assert.equal(String(got.status), path.slice(-3));
          }
        },
      ));
  });
}

for (const runtime of ["embedded", "process"] as const) {
  const withGateway = (
    locations: (url: string) => Record<string, string>,
    body: (nginx: Nginx, upstream: RawUpstream) => Promise<void>,
  ): Promise<void> => withUpstream(runtime, locations, body);
  const filters = (name: string, conf = "{}"): string =>
    phase("header_filter", `http.header_filter("${name}", ${conf})`) +
    phase("body_filter", `http.body_filter("${name}")`);
  const PARTS = { fields: ["Range: bytes=0-59", 'If-Range: "a"'] };
  const PACKED = { fields: ["Accept-Encoding: gzip"] };

  describe(`a response whose body is filtered, ${runtime}`, () => {
    test("gets the whole new body, or is cut where the header's length was sent", () =>
      withGateway(
        (url) => ({
          "/only/": `${phase("body_filter", `http.body_filter("adds")`)} proxy_pass ${url};`,
          "/early/": `${phase("access", `http.access("adds")`)}
            ${phase("body_filter", `http.body_filter("adds")`)} proxy_pass ${url};`,
          "/both/": `${filters("adds")} proxy_pass ${url};`,
          "/shorter/": `${phase("body_filter", `http.body_filter("redacts")`)} proxy_pass ${url};`,
          "/same/": `${phase("body_filter", `http.body_filter("swaps")`)} proxy_pass ${url};`,
          "/sees/": `${phase("body_filter", `http.body_filter("sees")`)} proxy_pass ${url};`,
          "= /static": `${phase("body_filter", `http.body_filter("adds")`)} alias hello.txt;`,
        }),
        async (nginx) => {
          for (const path of ["/only/200", "/early/200", "/shorter/user", "/static"]) {
            const bytes = await rawAsk(nginx.port!, rawRequest(`GET ${path}`) + LAST);
            assert.equal(bytes, "", path);
          }
          await nginx.waitForLog(/adds, body_filter, .*Content-Length.*header_filter_by_lua/);
          const whole = {
            "/both/200": "HELLO!",
            "/only/hello-in-chunks": "HELLO!",
            "/sees/200": "hello",
          };
          for (const [path, body] of Object.entries(whole)) {
            const got = await ask(nginx, rawRequest(`GET ${path}`));
            assert.deepEqual([got.status, got.body, got.cut], [200, body, false], path);
          }
          const got = await ask(nginx, rawRequest("GET /same/user"));
          assert.deepEqual([got.body, got.cut], [USER.replace("secret", "******"), false]);
        },
      ));

    test("is asked for as a whole and plain, which nginx may compress", () =>
      withGateway(
        (url) => ({
          "/": `${filtered("redacts")} gzip on; gzip_types text/plain application/json; gzip_min_length 1;
            gzip_proxied any; proxy_pass ${url};`,
          "= /static": `${filtered("redacts")} alias user.json;`,
          "/plain/": `${phase("access", `http.access("answers")`)} proxy_pass ${url};`,
        }),
        async (nginx, upstream) => {
          for (const path of ["/user", "/static"]) {
            const got = await ask(nginx, rawRequest(`GET ${path}`, PARTS));
            assert.deepEqual([got.status, got.body, got.cut], [200, CLEAN, false]);
            for (const name of ["content-range", "accept-ranges"]) {
              assert.equal(got.fields[name], undefined, name);
            }
          }
          const packed = await ask(nginx, rawRequest("GET /user", PACKED));
          assert.equal(packed.fields["content-encoding"], "gzip");
          assert.equal(gunzipped(packed.body), CLEAN);
          for (const { head } of upstream.seen) {
            assert.doesNotMatch(head, /^(range|if-range|accept-encoding):/im);
          }
          await ask(
            nginx,
            rawRequest("GET /plain/user", { fields: [...PARTS.fields, ...PACKED.fields] }),
          );
          assert.match(
            upstream.seen.at(-1)!.head,
            /^range: .*^if-range: .*^accept-encoding: gzip$/ims,
          );
        },
      ));

    test("has no field that speaks of another body", () =>
      withGateway(
        (url) => ({ "/": `${filters("redacts")} proxy_pass ${url};` }),
        async (nginx) => {
          const got = await ask(nginx, rawRequest("GET /user"));
          assert.equal(got.body, CLEAN);
          assert.equal(got.fields.etag, 'W/"a"');
          assert.doesNotMatch(got.head, /^(accept-ranges|content-length|content-md5|.*digest):/im);
        },
      ));

    test("is a part only as it came", () =>
      withGateway(
        (url) => ({
          "/redacts/": `${filters("redacts")} proxy_pass ${url};`,
          "/adds/": `${filters("adds")} proxy_pass ${url};`,
          "/sees/": `${filters("sees")} proxy_pass ${url};`,
          "= /static": `${phase("body_filter", `http.body_filter("redacts")`)} alias user.json;`,
          "= /static-whole": `${filters("redacts")} alias user.json;`,
        }),
        async (nginx) => {
          for (const path of ["/redacts/user", "/adds/user", "/static"]) {
            const bytes = await rawAsk(nginx.port!, rawRequest(`GET ${path}`, PARTS) + LAST);
            assert.equal(bytes, "", path);
          }
          const whole = await ask(nginx, rawRequest("GET /static-whole", PARTS));
          assert.deepEqual([whole.status, whole.body], [200, CLEAN]);
          const got = await ask(nginx, rawRequest("GET /sees/user", PARTS));
          assert.deepEqual([got.status, got.body, got.cut], [206, USER.slice(0, 60), false]);
          const { etag, ...fields } = got.fields;
          assert.deepEqual(
            [etag, fields["content-range"], fields["content-length"]],
            ['"a"', `bytes 0-59/${String(USER.length)}`, "60"],
          );
        },
      ));

    test("is in the coding that its field says, or is cut", () =>
      withGateway(
        (url) => ({
          "/adds/": `${filters("adds")} proxy_pass ${url};`,
          "/sees/": `${filters("sees")} proxy_pass ${url};`,
          "/unpacks/": `${filters("unpacks", '{ how = "unpacks" }')} proxy_pass ${url};`,
          "/repacks/": `${filters("unpacks", '{ how = "repacks" }')} proxy_pass ${url};`,
          "/fails/": `${filters("unpacks", '{ how = "fails" }')} proxy_pass ${url};`,
          "/gunzip-adds/": `${filters("adds")} gunzip on; proxy_pass ${url};`,
          "/gunzip-repacks/": `${filters("unpacks", '{ how = "repacks" }')} gunzip on; proxy_pass ${url};`,
          "/packs/": `${filters("packs")} proxy_pass ${url};`,
          "/strips/": `${filters("strips")} proxy_pass ${url};`,
        }),
        async (nginx) => {
          for (const path of ["/adds/gzip", "/fails/gzip", "/gunzip-adds/gzip"]) {
            const bytes = await rawAsk(nginx.port!, rawRequest(`GET ${path}`) + LAST);
            assert.equal(bytes, "", path);
          }
          const expected = {
            "/sees/gzip": ["gzip", "the secret"],
            "/repacks/gzip": ["gzip", "the unpacked"],
            "/packs/200": ["gzip", "hello"],
            "/unpacks/gzip": [undefined, "the unpacked"],
            "/gunzip-repacks/gzip": [undefined, "the unpacked"],
            "/strips/gzip": ["gzip", "the secret"],
          };
          for (const [path, [coding, text]] of Object.entries(expected)) {
            const got = await ask(nginx, rawRequest(`GET ${path}`));
            assert.equal(got.fields["content-encoding"], coding, path);
            assert.equal(coding === undefined ? got.body : gunzipped(got.body), text, path);
          }
          await nginx.waitForLog(/strips, header_filter, .*content-encoding cannot be changed/);
        },
      ));
  });
}

async function withUpstream(
  runtime: string,
  locations: (url: string) => Record<string, string>,
  body: (nginx: Nginx, upstream: RawUpstream) => Promise<void>,
): Promise<void> {
  const upstream = await RawUpstream.start(answer);
  try {
    await withNginx(
      {
        ts: { plugins: "plugins", runtime, timeout_ms: 20_000, sync_timeout_ms: 10_000 },
        files: {
          ...Object.fromEntries(
            Object.entries(plugins).map(([name, text]) => [`plugins/${name}.ts`, text]),
          ),
          "files/hello.txt": "hello",
          "files/user.json": USER,
        },
        server: "root .;",
        locations: Object.fromEntries(
          Object.entries(locations(upstream.url)).map(([path, text]) => [
            path,
            text.replace(/ alias (.*);/, " alias files/$1;"),
          ]),
        ),
        allowLog: [/resty\.ts: /, /failed to run body_filter_by_lua/],
      },
      (nginx) => body(nginx, upstream),
    );
  } finally {
    await upstream.stop();
  }
}
