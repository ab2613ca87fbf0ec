/** Cases of the shared suite: fields are bytes, lists and names. */
import type { Case } from "./case.ts";
import { answers, fields } from "./plugins.ts";
import type { FieldOp } from "./plugins/fields.ts";

type Pairs = readonly (readonly [string, string])[];

const ops = (...list: FieldOp[]): Case["chain"] => [{ plugin: fields, conf: { ops: list } }];

/** What the upstream gets of a request. */
const request = (title: string, sent: Pairs, list: FieldOp[], expected: Pairs): Case => ({
  title,
  chain: ops(...list),
  request: { headers: sent },
  expect: { upstream: { fields: expected } },
});

/** What the client gets of a response. */
const response = (
  title: string,
  sent: Pairs,
  list: FieldOp[],
  headers: Readonly<Record<string, readonly string[]>>,
  without: readonly string[] = [],
): Case => ({
  title,
  chain: ops(...list),
  upstream: () => ({ headers: sent, body: "x" }),
  expect: { headers, without },
});

/** Lists that nginx has once in a request. */
const LISTS: readonly (readonly [name: string, there: string, added: string])[] = [
  ["Via", "1.1 cdn", "1.1 gateway"],
  ["If-None-Match", '"a"', '"b"'],
  ["If-Match", '"a"', 'W/"b"'],
  ["Accept-Encoding", "gzip", "br"],
];
const BOTH = ["Negotiate", 'Basic realm="x"'];

export const fieldCases: readonly Case[] = [
  ...LISTS.map(([name, there, added]) =>
    request(
      `${name} keeps what is there when something is appended`,
      [[name, there]],
      [["access", "request", "append", name, added]],
      [[name, `${there}, ${added}`]],
    ),
  ),
  ...LISTS.map(([name, one, other]) =>
    request(
      `${name} takes several values`,
      [],
      [["access", "request", "set", name, [one, other]]],
      [[name, `${one}, ${other}`]],
    ),
  ),
  request(
    "a list that came as two lines is set as a whole",
    [
      ["Via", "1.1 a"],
      ["Via", "1.1 b"],
    ],
    [["access", "request", "set", "Via", "1.1 own"]],
    [["Via", "1.1 own"]],
  ),
  request(
    "a list that came as two lines is appended to as a whole, and read so",
    [
      ["Via", "1.1 a"],
      ["Via", "1.1 b"],
    ],
    [
      ["access", "request", "append", "via", "1.1 own"],
      ["access", "request", "show", "Via"],
    ],
    [
      ["via", "1.1 a, 1.1 b, 1.1 own"],
      ["X-Seen", '["1.1 a, 1.1 b, 1.1 own",["1.1 a, 1.1 b, 1.1 own"]]'],
    ],
  ),
  request(
    "cookies are joined by a semicolon",
    [
      ["Cookie", "a=1"],
      ["Cookie", "b=2"],
    ],
    [["access", "request", "show", "Cookie"]],
    [
      ["Cookie", "a=1"],
      ["Cookie", "b=2"],
      ["X-Seen", '["a=1; b=2",["a=1","b=2"]]'],
    ],
  ),
  request(
    "a cookie that is appended is one more of the same line",
    [
      ["Cookie", "a=1"],
      ["Cookie", "b=2"],
    ],
    [["access", "request", "append", "Cookie", "c=3"]],
    [["Cookie", "a=1; b=2; c=3"]],
  ),
  request(
    "space and tab around a value are not part of it, any other byte is",
    [],
    [["access", "request", "set", "X-City", " \tvoil\u00c3\u00a0\t "]],
    [["X-City", "voil\u00c3\u00a0"]],
  ),
  request(
    "a number is a value, in an array, too",
    [],
    [
      ["access", "request", "set", "X-N", 5],
      ["access", "request", "append", "X-N", 6.5],
      ["access", "request", "set", "X-All", [1, "two"]],
    ],
    [
      ["X-N", "5"],
      ["X-N", "6.5"],
      ["X-All", "1"],
      ["X-All", "two"],
    ],
  ),
  request(
    "empty values go on as they are",
    [["X-There", "1"]],
    [
      ["access", "request", "set", "X-There", ""],
      ["access", "request", "set", "X-Several", ["", "a", ""]],
      ["access", "request", "set", "Accept-Encoding", ""],
    ],
    [
      ["X-There", ""],
      ["X-Several", ""],
      ["X-Several", "a"],
      ["X-Several", ""],
      ["Accept-Encoding", ""],
    ],
  ),
  request(
    "an appended field leaves the others where and as they are",
    [
      ["x-b", "1"],
      ["X-C", "c"],
      ["X-Forwarded-For", "1.1.1.1"],
      ["X-B", "2"],
      ["x-forwarded-for", "2.2.2.2"],
    ],
    [
      ["access", "request", "append", "X-b", "3"],
      ["access", "request", "append", "x-b", ""],
      ["access", "request", "append", "X-Forwarded-For", "3.3.3.3"],
    ],
    [
      ["x-b", "1"],
      ["X-C", "c"],
      ["X-Forwarded-For", "1.1.1.1"],
      ["X-B", "2"],
      ["x-forwarded-for", "2.2.2.2"],
      ["X-b", "3"],
      ["x-b", ""],
      ["X-Forwarded-For", "3.3.3.3"],
    ],
  ),
  {
    title: "an answer has the fields that were deleted before and set since",
    chain: [
      ...ops(["rewrite", "response", "delete", "content-type"]),
      { plugin: answers, conf: { action: "text", phase: "access" } },
    ],
    expect: {
      status: 401,
      upstream: null,
      body: "caf\u00c3\u00a9",
      headers: { "content-type": ["text/plain; charset=utf-8"] },
    },
  },
  request(
    "names of requests are set as spelled",
    [],
    [["access", "request", "set", "x_Own_", "1"]],
    [["x_Own_", "1"]],
  ),
  {
    title: "two challenges are two fields",
    chain: [
      ...ops(["access", "response", "set", "www-authenticate", BOTH]),
      { plugin: answers, conf: { action: "text", phase: "access" } },
    ],
    expect: {
      status: 401,
      upstream: null,
      body: "caf\u00c3\u00a9",
      headers: { "www-authenticate": BOTH },
    },
  },
  {
    title: "a challenge is appended to Lua's or another plugin's",
    chain: [
      ...ops(
        ["rewrite", "response", "set", "WWW-Authenticate", BOTH[0]!],
        ["access", "response", "append", "WWW-Authenticate", BOTH[1]!],
      ),
      { plugin: answers, conf: { action: "text", phase: "access" } },
    ],
    expect: {
      status: 401,
      upstream: null,
      body: "caf\u00c3\u00a9",
      headers: { "www-authenticate": BOTH },
    },
  },
  response(
    "the upstream's challenges are replaced as a whole",
    BOTH.map((value) => ["WWW-Authenticate", value] as const),
    [["headerFilter", "response", "set", "WWW-Authenticate", "Bearer"]],
    { "www-authenticate": ["Bearer"] },
  ),
  response(
    "the upstream's challenges are deleted as a whole",
    BOTH.map((value) => ["WWW-Authenticate", value] as const),
    [["headerFilter", "response", "delete", "WWW-Authenticate"]],
    {},
    ["www-authenticate"],
  ),
  ...["headerFilter", "access"].map((phase) =>
    response(
      `a name with an underscore is deleted as spelled, in ${phase}`,
      [
        ["x_secret", "1"],
        ["X_Secret", "2"],
        ["x-secret", "3"],
      ],
      [[phase as "access", "response", "delete", "x_secret"]],
      { "x-secret": ["3"] },
      ["x_secret"],
    ),
  ),
  response(
    "a name with an underscore is set as spelled",
    [
      ["x_there", "1"],
      ["x-there", "2"],
    ],
    [
      ["headerFilter", "response", "set", "x_there", ["new", ""]],
      ["headerFilter", "response", "set", "x_other", "a\u0001\u00e9"],
      ["headerFilter", "response", "append", "x_other", "b"],
      ["headerFilter", "response", "show", "x_there"],
    ],
    {
      x_there: ["new", ""],
      "x-there": ["2"],
      x_other: ["a\u0001\u00e9", "b"],
      "x-seen": ['["new, ",["new",""]]'],
    },
  ),
  response(
    "empty values and control characters of a response go on as they are",
    [["X-Up", "1"]],
    [
      ["headerFilter", "response", "set", "X-Up", ""],
      ["headerFilter", "response", "set", "X-Several", ["", "a", ""]],
      ["headerFilter", "response", "append", "X-Control", "a\u0001b\u007f%01"],
    ],
    { "x-up": [""], "x-several": ["", "a", ""], "x-control": ["a\u0001b\u007f%01"] },
  ),
  response(
    "what is deleted before the upstream answers is not sent",
    [
      ["X-Powered-By", "secret"],
      ["ETag", '"1"'],
      ["Last-Modified", "Thu, 01 Jan 1970 00:00:00 GMT"],
      ["Set-Cookie", "up=1"],
      ["Set-Cookie", "up=2"],
    ],
    [
      ...["X-Powered-By", "etag", "last-modified", "Set-Cookie"].map((name): FieldOp => [
        "access",
        "response",
        "delete",
        name,
      ]),
      ["access", "response", "append", "set-cookie", "own=1"],
    ],
    { "set-cookie": ["own=1"] },
    ["x-powered-by", "etag", "last-modified"],
  ),
  response(
    "what an earlier phase has set is seen and deleted",
    [],
    [
      ["rewrite", "response", "set", "X-Early", ["1", "2"]],
      ["rewrite", "response", "set", "X-Gone", "1"],
      ["access", "response", "show", "x-early"],
      ["access", "response", "delete", "x-gone"],
    ],
    { "x-early": ["1", "2"], "x-seen": ['["1, 2",["1","2"]]'] },
    ["x-gone"],
  ),
  response(
    "of fields that the upstream has sent twice and nginx has once, all are set and deleted",
    [
      ["Expires", "Thu, 01 Jan 1970 00:00:00 GMT"],
      ["Expires", "Thu, 01 Jan 1970 00:00:01 GMT"],
      ["Refresh", "1"],
      ["Refresh", "2"],
    ],
    [
      ["headerFilter", "response", "set", "Expires", "0"],
      ["headerFilter", "response", "delete", "Refresh"],
    ],
    { expires: ["0"] },
    ["refresh"],
  ),
  response(
    "a list that nginx has once takes several values",
    [["Content-Encoding", "identity"]],
    [["headerFilter", "response", "append", "content-encoding", "br"]],
    { "content-encoding": ["identity, br"] },
  ),
];
