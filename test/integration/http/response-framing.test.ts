/** What goes to the client is framed as HTTP has it, whatever plugins make of bodies. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
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

function answer({ head }: RawRequest): string {
  const path = head.split(" ")[1]!;
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
            ["adds", "delays"].flatMap((name) => [
              [`/${name}/`, `${filtered(name)} proxy_pass ${url};`],
              ...["204", "304"].map((status) => [
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
        files: Object.fromEntries(
          Object.entries(plugins).map(([name, text]) => [`plugins/${name}.ts`, text]),
        ),
        locations: locations(upstream.url),
      },
      (nginx) => body(nginx, upstream),
    );
  } finally {
    await upstream.stop();
  }
}
