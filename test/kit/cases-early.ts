/**
 * Cases of the shared suite: response fields that are set before there is a response, and those that
 * follow from the configuration alone.
 */
import type { Upstream } from "../../src/testing/index.ts";
import type { Case } from "./case.ts";
import { answers, decides, declares, fields, filters, serves, shouts } from "./plugins.ts";
import type { FieldOp } from "./plugins/fields.ts";

type Pairs = readonly (readonly [string, string])[];

const ops = (...list: FieldOp[]): Case["chain"] => [{ plugin: fields, conf: { ops: list } }];
const set = (name: string, value: string | string[]): FieldOp => [
  "access",
  "response",
  "set",
  name,
  value,
];
const declare = (set: Pairs, remove: string[] = []): Case["chain"] => [
  { plugin: declares, conf: { set, remove } },
];
const upstream =
  (headers: Pairs): Upstream =>
  () => ({ headers, body: "x" });

const ALLOW = "Access-Control-Allow-Origin";
const DATE = "Thu, 01 Jan 1970 00:00:00 GMT";

/** Of fields that nginx has a place of its own for: the plugin's value, and the upstream's. */
const APART: readonly (readonly [name: string, own: string, its: string])[] = [
  ["Content-Type", "text/csv", "text/html"],
  ["Last-Modified", "Thu, 01 Jan 2015 00:00:00 GMT", DATE],
  ["ETag", '"own"', '"its"'],
  ["Location", "/own", "/its"],
  ["Expires", "0", DATE],
  ["Cache-Control", "no-store", "max-age=60"],
  ["Refresh", "1", "2"],
  ["Link", "</own>", "</its>"],
  ["Accept-Ranges", "none", "bytes"],
];

const early: readonly Case[] = [
  {
    title: "what is set before the upstream answers is in place of what it sends",
    chain: ops(
      ["rewrite", "response", "set", ALLOW, "https://app.example.org"],
      set("x-two", ["1", "2"]),
      set("x_under", "own"),
      set("X-Empty", ""),
      ["headerFilter", "response", "show", ALLOW],
    ),
    upstream: upstream([
      [ALLOW, "*"],
      ["X-Two", "3"],
      ["x_under", "its"],
      ["x-under", "another"],
      ["x-empty", "its"],
      [ALLOW.toLowerCase(), "null"],
    ]),
    expect: {
      headers: {
        "access-control-allow-origin": ["https://app.example.org"],
        "x-two": ["1", "2"],
        x_under: ["own"],
        "x-under": ["another"],
        "x-empty": [""],
        "x-seen": ['["https://app.example.org",["https://app.example.org"]]'],
      },
    },
  },
  ...APART.flatMap(([name, own, its]): Case[] => [
    {
      title: `${name} that is set before the upstream answers is in place of its own`,
      chain: ops(set(name, own), ["headerFilter", "response", "show", name]),
      upstream: upstream([[name, its]]),
      expect: {
        headers: { [name.toLowerCase()]: [own], "x-seen": [JSON.stringify([own, [own]])] },
      },
    },
    {
      title: `${name} that is set before the upstream answers may be set again in headerFilter`,
      chain: ops(set(name, own), ["headerFilter", "response", "set", name, its]),
      upstream: upstream([[name, "1"]]),
      expect: { headers: { [name.toLowerCase()]: [its] } },
    },
    {
      title: `${name} that is set before the upstream answers may be deleted in headerFilter`,
      chain: ops(set(name, own), ["headerFilter", "response", "delete", name]),
      upstream: upstream([[name, its]]),
      expect: { without: [name.toLowerCase()] },
    },
  ]),
  {
    title: "an ETag that is set before the upstream answers is a weak one after a body filter",
    chain: [...ops(set("ETag", '"own"')), { plugin: shouts }],
    upstream: upstream([["ETag", '"its"']]),
    expect: { body: "X (1)", headers: { etag: ['W/"own"'] } },
  },
  {
    title: "what is appended is beside what the upstream sends, unless it was set before",
    chain: ops(
      ["access", "response", "append", "X-Beside", "own"],
      set("X-Set", "1"),
      ["access", "response", "append", "x-set", "2"],
      ["access", "response", "append", "Set-Cookie", "own=1"],
      ["access", "response", "append", "x_beside", "own"],
      set("x_set", "1"),
      ["access", "response", "append", "x_set", "2"],
    ),
    upstream: upstream([
      ["X-Beside", "its"],
      ["X-Set", "its"],
      ["Set-Cookie", "its=1"],
      ["x_beside", "its"],
      ["x_set", "its"],
    ]),
    expect: {
      headers: {
        "x-beside": ["own", "its"],
        "x-set": ["1", "2"],
        "set-cookie": ["own=1", "its=1"],
        x_beside: ["own", "its"],
        x_set: ["1", "2"],
      },
    },
  },
  {
    title: "cookies that are set are in place of the upstream's",
    chain: ops(set("Set-Cookie", ["a=1", "b=2"])),
    upstream: upstream([["Set-Cookie", "its=1"]]),
    expect: { headers: { "set-cookie": ["a=1", "b=2"] } },
  },
  {
    title: "the last of the handlers that set and delete a field counts",
    chain: ops(
      ["rewrite", "response", "set", "X-A", "1"],
      ["rewrite", "response", "delete", "X-B"],
      ["rewrite", "response", "set", "X-C", ["1", "2"]],
      ["access", "response", "delete", "x-a"],
      ["access", "response", "set", "x-b", "2"],
      ["access", "response", "set", "x-c", "3"],
    ),
    upstream: upstream([
      ["X-A", "its"],
      ["X-B", "its"],
      ["X-C", "its"],
    ]),
    expect: { headers: { "x-b": ["2"], "x-c": ["3"] }, without: ["x-a"] },
  },
  ...[304, 204, 502].map((status): Case => ({
    title: `what is set before the upstream answers is in its ${status}, too`,
    chain: ops(set(ALLOW, "own")),
    upstream: () => ({ status, headers: { [ALLOW]: "*" }, body: "" }),
    expect: { status, headers: { "access-control-allow-origin": ["own"] } },
  })),
  {
    title: "what is set before the upstream answers is in its answer to HEAD, too",
    chain: ops(set(ALLOW, "own"), set("Content-Type", "text/csv")),
    request: { method: "HEAD" },
    upstream: () => ({ headers: { [ALLOW]: "*", "Content-Type": "text/html" } }),
    expect: { headers: { "access-control-allow-origin": ["own"], "content-type": ["text/csv"] } },
  },
  {
    title: "what a handler before has set is in a plugin's answer once, and its own type counts",
    chain: [
      ...ops(
        ["rewrite", "response", "set", ALLOW, "own"],
        ["rewrite", "response", "set", "Content-Type", "text/csv"],
        ["rewrite", "response", "set", "X-A", "1"],
      ),
      { plugin: answers, conf: { action: "response" } },
    ],
    expect: {
      status: 201,
      headers: {
        "access-control-allow-origin": ["own"],
        "content-type": ["text/html"],
        "x-a": ["1"],
      },
    },
  },
  {
    title: "what is set before content is in an answer that has none of its own",
    chain: [...ops(set(ALLOW, "own")), { plugin: serves, conf: { action: "nothing" } }],
    expect: { headers: { "access-control-allow-origin": ["own"] } },
  },
  {
    title: "what a handler has set and nginx has, and is undone, is what it was before",
    chain: [
      ...ops(["rewrite", "response", "set", "X-Before", "own"]),
      { plugin: decides, conf: { action: "asked, then throws" }, options: { onError: "open" } },
    ],
    vars: { known: "before" },
    upstream: upstream([["X-Before", "its"]]),
    expect: { headers: { "x-before": ["own"] }, failures: ["decides, access"] },
  },
  {
    title: "what a handler has set and nginx has, and is undone, takes nothing from the upstream's",
    chain: [
      { plugin: decides, conf: { action: "asked, then throws" }, options: { onError: "open" } },
    ],
    vars: { known: "before" },
    upstream: upstream([["X-Before", "its"]]),
    expect: { headers: { "x-before": ["its"] }, failures: ["decides, access"] },
  },
];

const declared: readonly Case[] = [
  {
    title: "declared fields are set in place of the upstream's, deleted, or left alone",
    chain: declare(
      [
        ["X-Frame-Options", "DENY"],
        ["x_under", "own"],
        ["X-Empty", ""],
        ["X-Two", "1"],
        ["Expires", "0"],
        ["ETag", '"own"'],
        ["Content-Type", "text/csv"],
        ["WWW-Authenticate", "own"],
      ],
      ["X-Powered-By", "Set-Cookie", "x_gone", "Last-Modified"],
    ),
    upstream: upstream([
      ["x-frame-options", "SAMEORIGIN"],
      ["x_under", "its"],
      ["x-under", "another"],
      ["X-Empty", "its"],
      ["X-Two", "2"],
      ["X-Two", "3"],
      ["Expires", DATE],
      ["Expires", DATE],
      ["ETag", '"its"'],
      ["Content-Type", "text/html"],
      ["WWW-Authenticate", "its"],
      ["X-Powered-By", "its"],
      ["Set-Cookie", "its=1"],
      ["Set-Cookie", "its=2"],
      ["x_gone", "its"],
      ["Last-Modified", DATE],
      ["X-Undefined", "its"],
    ]),
    expect: {
      headers: {
        "x-frame-options": ["DENY"],
        x_under: ["own"],
        "x-under": ["another"],
        "x-empty": [""],
        "x-two": ["1"],
        expires: ["0"],
        etag: ['"own"'],
        "content-type": ["text/csv"],
        "www-authenticate": ["own"],
        "x-undefined": ["its"],
      },
      without: ["x-powered-by", "set-cookie", "x_gone", "last-modified"],
    },
  },
  {
    title: "a declared field may have several values and any bytes",
    chain: [
      {
        plugin: declares,
        conf: {
          set: [
            ["X-A", ["1", "caf\u00e9", "a\u0001b"]],
            ["Link", ["</a>", "</b>"]],
          ],
        },
      },
    ],
    upstream: upstream([["Link", "</its>"]]),
    expect: { headers: { "x-a": ["1", "caf\u00e9", "a\u0001b"], link: ["</a>", "</b>"] } },
  },
  {
    title: "declared fields come after what is set before the response, and before headerFilter",
    chain: [
      ...declare([
        ["X-Early", "declared"],
        ["X-Late", "declared"],
        ["X-Seen-Too", "declared"],
      ]),
      ...ops(
        set("X-Early", "access"),
        ["headerFilter", "response", "show", "x-seen-too"],
        ["headerFilter", "response", "set", "X-Late", "headerFilter"],
      ),
    ],
    upstream: upstream([["X-Late", "its"]]),
    expect: {
      headers: {
        "x-early": ["declared"],
        "x-late": ["headerFilter"],
        "x-seen": ['["declared",["declared"]]'],
      },
    },
  },
  {
    title: "declared fields come before the headerFilter of a plugin of any priority",
    chain: [
      { plugin: filters, conf: { action: "set-in-place" }, options: { priority: 9 } },
      ...declare([["X-Up", "declared"]]),
    ],
    expect: { headers: { "x-up": ["changed"] } },
  },
  ...["text", "response", "stream", "no-content", "etag"].map((action): Case => ({
    title: `declared fields are in an answer of a plugin's: ${action}`,
    chain: [
      ...declare([
        ["X-A", "declared"],
        ["X-Frame-Options", "DENY"],
      ]),
      { plugin: answers, conf: { action } },
    ],
    request: { headers: { "If-None-Match": '"a"' } },
    expect: {
      status: { text: 401, response: 201, "no-content": 204, etag: 304 }[action] ?? 200,
      headers: { "x-a": ["declared"], "x-frame-options": ["DENY"] },
    },
  })),
  {
    title: "declared fields are in the answer to a failure",
    chain: [
      ...declare([["X-Frame-Options", "DENY"]]),
      { plugin: decides, conf: { action: "undefined variable" } },
    ],
    expect: {
      status: 500,
      headers: { "x-frame-options": ["DENY"], "content-type": ["application/problem+json"] },
      failures: ["decides, access"],
    },
  },
  {
    title: "declared fields stay when a headerFilter fails that is open",
    chain: [
      ...declare([["X-Frame-Options", "DENY"]]),
      { plugin: filters, conf: { action: "length-set" } },
    ],
    expect: { headers: { "x-frame-options": ["DENY"] }, failures: ["filters, headerFilter"] },
  },
  {
    title: "a declared ETag is what a body filter leaves of it",
    chain: [...declare([["ETag", '"own"']]), { plugin: shouts }],
    upstream: upstream([["ETag", '"its"']]),
    expect: { body: "X (1)", headers: { etag: ['"own"'] }, without: ["content-length"] },
  },
  {
    title: "a declared Content-Length is deleted, and nginx sends the body all the same",
    chain: declare([], ["Content-Length"]),
    upstream: upstream([]),
    expect: { body: "x", without: ["content-length"] },
  },
];

export const earlyCases: readonly Case[] = [...early, ...declared];
