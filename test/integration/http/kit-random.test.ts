/**
 * Requests and changes made up at random have the same outcome in nginx and in the testing kit.
 *
 * The seed is fixed, so a run is like the one before; a failure names the smallest case that fails.
 */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { test } from "node:test";
import fc from "fast-check";
import { type Case, runInKit } from "../../kit/case.ts";
import { hostOf } from "../../kit/cases.ts";
import { KitUpstream, optionsFor, placesIn, runInNginx } from "../../kit/nginx.ts";
import { looks, ops, type Op, type Ops, shouts } from "../../kit/plugins.ts";
import type { UpstreamResponse } from "../../../src/testing/index.ts";
import { withNginx } from "../../support/nginx.js";
import { makeFolder } from "../../support/project.js";

const SEED = 20_261;
const RUNS = 250;

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64");

const template: Case = {
  title: "at random",
  chain: [{ plugin: ops }, { plugin: looks }],
  upstream: ({ headers }) =>
    JSON.parse(Buffer.from(headers.get("x-reply")!, "base64").toString()) as UpstreamResponse,
  expect: {},
};
const templates = [template, { ...template, chain: [...template.chain, { plugin: shouts }] }];

const value = fc
  .string({
    maxLength: 12,
    unit: fc.integer({ min: 0x20, max: 0xff }).map((n) => String.fromCharCode(n)),
  })
  .map((text) => text.replace(/[\x7f-\x9f]/g, "").trim());
const filled = value.filter((text) => text !== "");
const requestName = fc.constantFrom(
  ..."X-A x-a X-B Accept User-Agent Content-Type Via Authorization Referer Cookie".split(" "),
);
const responseName = fc.constantFrom(
  ...(
    "X-Up X-R Cache-Control Link Content-Type ETag Set-Cookie Vary Expires " +
    "Content-Language Retry-After WWW-Authenticate Last-Modified P3P"
  ).split(" "),
);
/** Of others nginx has one in a place of its own, and what it does with a second is its own affair. */
const REPEATED = /^(x-.*|accept|cookie|set-cookie|link|vary|cache-control)$/i;

function fieldsOf(
  name: fc.Arbitrary<string>,
  content: fc.Arbitrary<string>,
): fc.Arbitrary<[string, string][]> {
  return fc.uniqueArray(fc.tuple(name, content), {
    maxLength: 4,
    selector: ([key]) => (REPEATED.test(key) ? Symbol(key) : key.toLowerCase()),
  });
}

const path = fc
  .array(fc.constantFrom(..."a é %20 %2F %C3%A9 ; : @ + ~ ( ' * %25 .x".split(" ")), {
    maxLength: 5,
  })
  .map((parts) => `/${parts.join("/")}`);
const query = fc
  .array(fc.constantFrom(..."a a=1 b= =c d=%20 e=%2F&f ? / + %C3%A9 =".split(" ")), {
    maxLength: 4,
  })
  .map((parts) => parts.join("&"));
const target = fc
  .tuple(path, fc.option(query, { nil: undefined }))
  .map(([before, after]) => (after === undefined ? before : `${before}?${after}`));

function edits(kind: string, name: fc.Arbitrary<string>): fc.Arbitrary<Op> {
  return fc.oneof(
    fc.tuple(fc.constant(kind), fc.constant("set"), name, value),
    // lua-nginx-module itself is at odds about empty ones among several.
    fc.tuple(fc.constant(kind), fc.constant("set"), name, fc.array(filled, { maxLength: 3 })),
    fc.tuple(fc.constant(kind), fc.constant("append"), name, filled),
    fc.tuple(fc.constant(kind), fc.constant("delete"), name),
  );
}

const accessOp = fc.oneof(
  { weight: 6, arbitrary: edits("request", requestName) },
  { weight: 3, arbitrary: edits("response", responseName) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("method"), fc.constantFrom("GET", "PUT", "HEAD")) },
  { weight: 2, arbitrary: fc.tuple(fc.constant("uri"), target) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("path"), path) },
  {
    weight: 2,
    arbitrary: fc.tuple(fc.constant("query"), fc.constantFrom("a", "d", "é", "x"), value),
  },
  { weight: 1, arbitrary: fc.tuple(fc.constant("body"), value) },
  {
    weight: 1,
    arbitrary: fc.tuple(
      fc.constantFrom("exit", "answer"),
      fc.constantFrom(200, 201, 302, 404, 500),
      value,
    ),
  },
);
const filterOp = fc.oneof(
  { weight: 8, arbitrary: edits("edit", responseName) },
  { weight: 1, arbitrary: fc.tuple(fc.constant("status"), fc.constantFrom(200, 203, 404, 503)) },
);
const opsMade: fc.Arbitrary<Ops> = fc.record({
  access: fc.array(accessOp, { maxLength: 5 }),
  headerFilter: fc.array(filterOp, { maxLength: 4 }),
});
const reply: fc.Arbitrary<UpstreamResponse> = fc.record({
  status: fc.constantFrom(200, 201, 302, 404, 500),
  headers: fieldsOf(responseName, filled),
  body: fc.oneof(value, fc.array(value, { maxLength: 3 })),
});
const made = fc.record({
  which: fc.nat({ max: templates.length - 1 }),
  ops: opsMade,
  reply,
  method: fc.constantFrom("GET", "GET", "HEAD", "POST", "DELETE"),
  url: target.map((text) => text.replaceAll("é", "%c3%a9")),
  fields: fieldsOf(requestName, value),
  body: value,
});

test("nginx and the testing kit agree on what is made up", async () => {
  const folder = makeFolder("kit");
  const places = placesIn(folder);
  const upstream = new KitUpstream(templates);
  await upstream.listen(places.back);
  try {
    await withNginx(optionsFor(templates, places), (nginx) =>
      fc.assert(
        fc.asyncProperty(made, async ({ which, ops: doing, reply: replied, ...request }) => {
          const { method, url, fields, body } = request;
          const host = hostOf(which);
          const one: Case = {
            ...templates[which]!,
            request: {
              method,
              url,
              headers: [...fields, ["X-Ops", encode(doing)], ["X-Reply", encode(replied)]],
              ...(method === "POST" ? { body } : {}),
            },
          };
          const inKit = await runInKit(one, host);
          const inNginx = await runInNginx(nginx, upstream, places, one, host, inKit);
          assert.deepEqual(inNginx, inKit, "nginx (actual) and kit (expected) differ");
        }),
        { seed: SEED, numRuns: RUNS },
      ),
    );
  } finally {
    await upstream.close();
    rmSync(folder, { recursive: true, force: true });
  }
});
