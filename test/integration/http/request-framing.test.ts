/** What goes to the upstream and to subrequests is framed by nginx alone, whatever plugins change. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { type Nginx, withNginx } from "../../support/nginx.js";
import { phase, plugin } from "../../support/plugin-phases.js";
import {
  LAST,
  rawAsk,
  rawRequest,
  type RawRequest,
  rawResponses,
  RawUpstream,
  respond,
} from "../../support/raw.js";

/** The body's length that the head says; undefined: it has none. */
const lengthOf = ({ head }: RawRequest): string | undefined =>
  /^content-length: *(.*)$/im.exec(head)?.[1];

const FRAMING = ["content-length", "Transfer-Encoding", "EXPECT"];

const plugins = {
  framing: plugin(`name: "framing",
    schema: { type: "object" },
    async access(ctx, { conf }) {
      const { headers } = ctx.request;
      if (conf.body) ctx.request.setBody(conf.body);
      if (conf.how === "delete") headers.delete(conf.name);
      else headers[conf.how](conf.name, "1");
    },`),
  replaces: plugin(`name: "replaces",
    schema: { type: "object" },
    async access(ctx, { conf }) {
      if (conf.reads) await ctx.request.bytes();
      ctx.request.setBody(conf.body);
    },`),
  audits: plugin(`name: "audits",
    schema: { type: "object" },
    async access(ctx, { conf }) {
      if (conf.reads) await ctx.request.bytes(1e8);
      const { method, body } = conf;
      const answer = await ctx.subrequest("/audit", body === undefined ? { method } : { method, body });
      ctx.request.headers.set("x-audit", String(answer.status));
    },`),
};

const CHUNKED = rawRequest("POST /audits", {
  fields: ["Transfer-Encoding: chunked"],
  body: "8\r\npassword\r\n0\r\n\r\n",
});
const CLIENTS: readonly (readonly [string, string])[] = [
  ["with a body", rawRequest("POST /audits", { body: "password" })],
  ["without a body", rawRequest("GET /audits")],
  ["with a chunked body", CHUNKED],
  ["with a body in a file", rawRequest("POST /audits", { body: "password".repeat(4000) })],
];

for (const runtime of ["embedded", "process"] as const) {
  const withGateway = (
    locations: Record<string, string>,
    body: (nginx: Nginx, upstream: RawUpstream) => Promise<void>,
  ): Promise<void> => withUpstream(runtime, locations, body);

  describe(`the request's framing, ${runtime}`, () => {
    test("is refused to plugins, set, appended or deleted", () =>
      withGateway(
        Object.fromEntries(
          FRAMING.flatMap((name) =>
            ["set", "append", "delete"].flatMap((how) =>
              ["", `, body = "é"`].map((body) => [
                `= /${name}/${how}/${String(body.length)}`,
                phase(
                  "access",
                  `http.access("framing", { name = "${name}", how = "${how}"${body} })`,
                ),
              ]),
            ),
          ),
        ),
        async (nginx, upstream) => {
          for (const name of FRAMING) {
            for (const path of [
              "set/0",
              "append/0",
              "delete/0",
              "set/12",
              "append/12",
              "delete/12",
            ]) {
              const asked = rawRequest(`POST /${name}/${path}`, {
                body: "GET /evil HTTP/1.1\r\n\r\n",
              });
              const [first, second, ...others] = rawResponses(
                await rawAsk(nginx.port!, asked + LAST),
              );
              assert.deepEqual([first?.status, second?.status], [500, 204], `${name}/${path}`);
              assert.deepEqual(others, []);
            }
          }
          assert.deepEqual(upstream.seen, []);
          await nginx.waitForLog(/framing, access, .*content-length .* nginx/);
        },
      ));

    test("fits a body that a plugin has replaced, and the client's next request is its own", () =>
      withGateway(
        Object.fromEntries(
          ["é", "", "x".repeat(3000)].flatMap((body, i) =>
            [true, false].map((reads) => [
              `= /${String(i)}/${String(reads)}`,
              phase(
                "access",
                `http.access("replaces", { body = "${body}", reads = ${String(reads)} })`,
              ),
            ]),
          ),
        ),
        async (nginx, upstream) => {
          for (const [i, body] of ["Ã©", "", "x".repeat(3000)].entries()) {
            for (const reads of [true, false]) {
              for (const [, client] of CLIENTS) {
                upstream.seen.length = 0;
                const asked = client.replace("/audits", `/${String(i)}/${String(reads)}`);
                const all = rawResponses(await rawAsk(nginx.port!, asked + LAST));
                assert.deepEqual(
                  all.map(({ status }) => status),
                  [200, 204],
                );
                const [seen, ...others] = upstream.seen;
                assert.deepEqual(others, []);
                assert.equal(seen?.body, body);
                assert.equal(lengthOf(seen), String(body.length));
              }
            }
          }
        },
      ));
  });

  describe(`a subrequest, ${runtime}`, () => {
    const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"];
    const LOCATIONS = Object.fromEntries(
      METHODS.flatMap((method) =>
        ["nil", '""', '"sent"'].flatMap((body) =>
          [true, false].map((reads) => [
            `= /${method}/${body === "nil" ? "none" : String(body.length - 2)}/${String(reads)}`,
            phase(
              "access",
              `http.access("audits", { method = "${method}", body = ${body}, reads = ${String(reads)} })`,
            ),
          ]),
        ),
      ),
    );

    test("sends the body that it was given and no other, and the client's goes to the upstream", () =>
      withGateway(
        { ...LOCATIONS, "= /audit": "proxy_http_version 1.1;" },
        async (nginx, upstream) => {
          for (const path of Object.keys(LOCATIONS)) {
            for (const [title, client] of CLIENTS) {
              upstream.seen.length = 0;
              const asked = client.replace("/audits", path.slice(2));
              const what = `${path}, a client ${title}`;
              const all = rawResponses(await rawAsk(nginx.port!, asked + LAST));
              assert.deepEqual(
                all.map(({ status }) => status),
                [200, 204],
                what,
              );
              const [audit, proxied, ...others] = upstream.seen;
              assert.deepEqual(others, [], what);
              const body = path.includes("/4/") ? "sent" : "";
              assert.deepEqual(
                [audit?.body, audit && lengthOf(audit)],
                [body, String(body.length)],
                what,
              );
              assert.match(audit?.head ?? "", /^(?!.*^transfer-encoding:)/ims, what);
              const own = client.includes("password") ? "password" : "";
              assert.equal(proxied?.body.slice(0, 8), own, what);
              assert.match(proxied.head, /^x-audit: 200$/im, what);
            }
          }
        },
      ));
  });
}

async function withUpstream(
  runtime: string,
  locations: Record<string, string>,
  body: (nginx: Nginx, upstream: RawUpstream) => Promise<void>,
): Promise<void> {
  const upstream = await RawUpstream.start(({ head }) => {
    return head.startsWith("HEAD ")
      ? "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
      : respond("ok");
  });
  try {
    await withNginx(
      {
        ts: { plugins: "plugins", runtime, timeout_ms: 20_000 },
        files: Object.fromEntries(
          Object.entries(plugins).map(([name, text]) => [`plugins/${name}.ts`, text]),
        ),
        server: "client_body_buffer_size 16k;",
        locations: Object.fromEntries(
          Object.entries(locations).map(([path, text]) => [
            path,
            `${text}\nproxy_pass ${upstream.url};`,
          ]),
        ),
        allowLog: [/resty\.ts: framing, access/],
      },
      (nginx) => body(nginx, upstream),
    );
  } finally {
    await upstream.stop();
  }
}
