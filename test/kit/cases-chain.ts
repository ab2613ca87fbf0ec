/** Cases of the shared suite: failures and their policies, chains, state, questions to nginx. */
import type { Case } from "./case.ts";
import { asks, fails, keeps, later, mark1, mark2, mark3, refuses, slow } from "./plugins.ts";

const phases = ["rewrite", "access", "beforeProxy"] as const;
const filters = ["headerFilter", "bodyFilter", "delayedBodyFilter"] as const;
const upstream: Case["upstream"] = () => ({ body: "from upstream" });
const COOKIES = ["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "b=2"];
const inner: Case["locations"] = {
  "/inner": ({ method, uri, body }) => ({
    status: 201,
    headers: [
      ["X-Inner", "yes"],
      ["X-Several", "1"],
      ["X-Several", "2"],
      ...COOKIES.map((value): [string, string] => ["Set-Cookie", value]),
    ],
    body: `${method} ${uri} ${Buffer.from(body).toString()}`,
  }),
};

const ask = (
  action: string,
  json: unknown,
  more: Partial<Omit<Case, "expect">> & { expect?: Case["expect"] } = {},
): Case => ({
  title: `questions to nginx: ${action}`,
  chain: [{ plugin: asks, conf: { action } }],
  ...more,
  expect: json === undefined ? more.expect! : { json, upstream: null },
});

export const chainCases: readonly Case[] = [
  ...phases.flatMap((phase): Case[] => [
    {
      title: `an error in ${phase} is closed: 500, and no word of why`,
      chain: [{ plugin: fails, conf: { phase } }],
      expect: {
        status: 500,
        upstream: null,
        headers: { "content-type": ["application/problem+json"] },
        body: /^\{(?=.*"status":500)(?=.*"title":"Internal Server Error")(?!.*luck)/,
        failures: [`fails, ${phase}`],
      },
    },
    {
      title: `an error in ${phase} that is open undoes what the plugin had changed`,
      chain: [{ plugin: fails, conf: { phase }, options: { onError: "open" } }, { plugin: mark1 }],
      upstream,
      expect: {
        body: "from upstream1",
        upstream: { fields: [["X-Order", "mark-1"]] },
        headers: { "x-order": ["mark-1"] },
        without: ["x-half"],
        failures: [`fails, ${phase}`],
      },
    },
    {
      title: `an error in ${phase} answers with the status that the chain says`,
      chain: [{ plugin: fails, conf: { phase }, options: { onError: 451 } }, { plugin: mark1 }],
      expect: {
        status: 451,
        upstream: null,
        headers: { "x-order": ["mark-1"] },
        body: /"title":"Unavailable For Legal Reasons"/,
        failures: [`fails, ${phase}`],
      },
    },
    {
      title: `a deadline in ${phase} is closed: 504`,
      chain: [{ plugin: slow, conf: { phase } }],
      expect: {
        status: 504,
        upstream: null,
        body: /"status":504/,
        failures: [`slow, ${phase}`],
      },
    },
    {
      title: `a deadline in ${phase} that is open goes on`,
      chain: [{ plugin: slow, conf: { phase }, options: { onTimeout: "open" } }],
      upstream,
      expect: { body: "from upstream", failures: [`slow, ${phase}`] },
    },
    {
      title: `a deadline in ${phase} answers with the status that the chain says`,
      chain: [{ plugin: slow, conf: { phase }, options: { onTimeout: 408 } }],
      expect: { status: 408, upstream: null, failures: [`slow, ${phase}`] },
    },
  ]),
  {
    title: "an error after a question is open, too",
    chain: [{ plugin: fails, conf: { phase: "access", late: true }, options: { onError: "open" } }],
    upstream,
    expect: { body: "from upstream", failures: ["fails, access"] },
  },
  ...filters.flatMap((phase): Case[] => [
    {
      title: `an error in ${phase} is open`,
      chain: [{ plugin: fails, conf: { phase } }],
      upstream,
      expect: { body: "from upstream", without: ["x-half"], failures: [`fails, ${phase}`] },
    },
    {
      title: `an error in ${phase} that is closed cuts the connection`,
      chain: [{ plugin: fails, conf: { phase }, options: { onError: "closed" } }],
      upstream,
      expect: {
        status: 0,
        body: "",
        cut: true,
        failures: [`fails, ${phase}`],
      },
    },
  ]),
  {
    title: "plugins run in order of priority",
    chain: [{ plugin: mark1 }, { plugin: mark3 }, { plugin: mark2 }],
    upstream: () => ({ body: "x" }),
    expect: {
      body: "x321",
      headers: { "x-order": ["mark-3", "mark-2", "mark-1"] },
      upstream: {
        fields: [
          ["X-Order", "mark-3"],
          ["X-Order", "mark-2"],
          ["X-Order", "mark-1"],
        ],
      },
    },
  },
  {
    title: "a chain's priorities count before the plugins' own, its order among equals",
    chain: [
      { plugin: mark1, options: { priority: 7 } },
      { plugin: mark3, options: { priority: 7 } },
      { plugin: mark2, options: { priority: 8 } },
    ],
    upstream: () => ({ body: "x" }),
    expect: { body: "x213" },
  },
  {
    title: "a chain's deadline counts before the plugin's own",
    chain: [{ plugin: slow, conf: { phase: "access" }, options: { timeoutMs: 15 } }],
    expect: { status: 504, upstream: null, failures: ["slow, access"] },
  },
  {
    title: "ngx.ctx, ctx.local and variables live from phase to phase",
    chain: [{ plugin: keeps }],
    request: { url: "/x?q=%20" },
    vars: { color: "red" },
    fromLua: "hello",
    upstream,
    expect: {
      upstream: {
        field: {
          "X-Vars": '[{"color":"blue ?","arg_q":"%20","status":"000"},"hello","/x?q=%20"]',
        },
      },
      lines: [
        '[keeps] [["rewrite","access","headerFilter","bodyFilter"],1,200,"blue \u00e9",true]',
      ],
    },
  },
  {
    title: "the log handler runs for requests that a plugin answers",
    chain: [{ plugin: fails, conf: { phase: "access" } }, { plugin: keeps }],
    vars: { color: "red" },
    expect: {
      status: 500,
      failures: ["fails, access"],
      lines: ['[keeps] [["rewrite","headerFilter","bodyFilter"],1,500,"blue \u00e9",true]'],
    },
  },
  {
    title: "a handler may not return a number",
    chain: [{ plugin: refuses, conf: { action: "number" } }],
    expect: { status: 500, upstream: null, failures: ["refuses, access"] },
  },
  ...["function", "date"].map((action): Case => ({
    title: `what ngx.ctx cannot hold stays behind, with a line in the log: a ${action}`,
    chain: [{ plugin: refuses, conf: { action } }],
    upstream,
    expect: { body: "from upstream", failures: ["refuses, access"] },
  })),
  {
    title: "a filter may not return a promise",
    chain: [{ plugin: refuses, conf: { action: "promise" } }],
    upstream,
    expect: { body: "from upstream", failures: ["refuses, headerFilter"] },
  },

  // Questions -----------------------------------------------------------------------------------
  ask("strings", ["caf\u00e9", 1.5, true, null, 0, null]),
  ask("incr", [
    'shared dictionary counts, incr "c": not found',
    12,
    11.5,
    null,
    'shared dictionary counts, incr "c": not a number',
  ]),
  ask("add", [true, false, 1]),
  ask("lists", [
    1,
    2,
    3,
    3,
    'shared dictionary counts, get "l": value is a list',
    'shared dictionary counts, incr "l": not a number',
    "a",
    3,
    "b",
    null,
    0,
    null,
    'shared dictionary counts, lpush "l": value not a list',
    'shared dictionary counts, llen "l": value not a list',
  ]),
  ask("keys", [
    'shared dictionary counts, get "": empty key',
    'shared dictionary counts, set "": empty key',
    "key too long",
    'bad "exptime" argument',
  ]),
  ask("no-dict", "there is no shared dictionary nowhere"),
  ask(
    "vars",
    [
      "POST",
      "1",
      null,
      "b",
      "k",
      "?",
      "x=1&y",
      "/a/b",
      "http",
      "HTTP/1.1",
      "000",
      "",
      "text/plain",
    ],
    {
      request: {
        method: "POST",
        url: "/a%2Fb?x=1&y",
        headers: { "X-B": "b", Cookie: "d=1; c=k", "Content-Type": "text/plain" },
        body: "x",
      },
    },
  ),
  ask("together", [1, 2, "/", "the body"], { request: { method: "POST", body: "the body" } }),
  ask("subrequest", [201, "yes", "1, 2", COOKIES, "GET /inner?a=1&b=2 "], { locations: inner }),
  ask("subrequest-post", [201, "POST /inner sent"], { locations: inner }),
  ...["/", "/?read"].map((url) =>
    ask(
      "subrequest-bare",
      ["GET", "POST", "PUT", "PATCH", "DELETE"].map((method) => `${method} 0 `),
      {
        title: `a subrequest without a body does not send the client's: ${url}`,
        locations: {
          "/inner": ({ method, headers, body }) => ({
            body: `${method} ${headers.get("content-length")!} ${Buffer.from(body).toString()}`,
          }),
        },
        request: { method: "POST", url, body: "body" },
      },
    ),
  ),
  ask("subrequest-head", [200, "5", 0], {
    locations: { "/inner": () => ({ headers: { "Content-Length": "5" } }) },
  }),
  ask("subrequest-method", "nginx does not know the method PURGE", { locations: inner }),
  ask("subrequest", [404, null, null, [], "GET /inner?a=1&b=2"], {
    title: "a subrequest may be answered with an error",
    locations: { "/inner": ({ method, uri }) => ({ status: 404, body: `${method} ${uri}` }) },
  }),
  ask("subrequest", [204, null, null, [], ""], {
    title: "a subrequest may be answered without a body",
    locations: { "/inner": () => ({ status: 204 }) },
  }),
  ...["waits", "does not wait"].map((action): Case => ({
    title: `shared dictionaries are there after the phase, too: the handler ${action}`,
    chain: [{ plugin: later, conf: { waits: action === "waits" } }],
    expect: { body: "one 1 two 1 ", lines: ["[later] 1 in waitUntil", "[later] 1 in log"] },
  })),
  ask("set-args", ["new=1", "1", "/x"], { request: { url: "/x?old=1" } }),
  ...["set-unknown", "set-builtin"].map((action) =>
    ask(action, undefined, {
      title: `a variable that nginx does not let be set is an error: ${action}`,
      expect: { status: 500, upstream: null, failures: ["asks, access"] },
    }),
  ),
];
