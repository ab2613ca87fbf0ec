/** Cases of the shared suite: answers of plugins, and what filters make of responses. */
import type { FieldsInit } from "../../src/testing/index.ts";
import type { Case, CaseMember } from "./case.ts";
import { answers, digests, filters, serves, shouts, whole } from "./plugins.ts";

const answer = (action: string, phase = "access"): CaseMember[] => [
  { plugin: answers, conf: { action, phase } },
];
const filter = (action: string): CaseMember[] => [{ plugin: filters, conf: { action } }];
const serve = (action: string): CaseMember[] => [{ plugin: serves, conf: { action } }];
const upstream: Case["upstream"] = () => ({
  status: 201,
  headers: [
    ["X-Up", "1"],
    ["Content-Type", "text/html"],
    ["Set-Cookie", "a=1"],
    ["Set-Cookie", "b=2"],
    ["Date", "Thu, 01 Jan 1970 00:00:00 GMT"],
    ["X-Accel-Expires", "1"],
  ],
  body: "from upstream",
});
const pieces: Case["upstream"] = () => ({
  headers: { "Content-Type": "text/plain" },
  body: ["one ", "two ", "", "thr\u00e9e"],
});
const twice = "0123456789".repeat(10);

export const responseCases: readonly Case[] = [
  ...["rewrite", "access"].map((phase): Case => ({
    title: `exit with text answers in ${phase}, in UTF-8`,
    chain: answer("text", phase),
    expect: {
      status: 401,
      upstream: null,
      body: "caf\u00c3\u00a9",
      headers: { "content-type": ["text/plain; charset=utf-8"], "content-length": ["5"] },
    },
  })),
  {
    title: "exit with an object answers JSON",
    chain: answer("json"),
    expect: {
      status: 403,
      upstream: null,
      json: { message: "no", list: [1, null] },
      headers: { "content-type": ["application/json"] },
    },
  },
  {
    title: "exit with bytes answers them",
    chain: answer("bytes"),
    expect: { body: "\0\u0001\u00fe\u00ff", upstream: null },
  },
  {
    title: "exit with a status alone has an empty body",
    chain: answer("status"),
    expect: { status: 403, body: "", headers: { "content-length": ["0"] }, upstream: null },
  },
  {
    title: "204 has no body and no length",
    chain: answer("no-content"),
    expect: { status: 204, body: "", without: ["content-length", "content-type"] },
  },
  {
    title: "304 has no body and keeps its fields",
    chain: answer("not-modified"),
    expect: { status: 304, body: "", headers: { etag: ['"a"'] }, without: ["content-length"] },
  },
  {
    title: "204 with a body filter has no body either",
    chain: [...answer("no-content"), { plugin: shouts }],
    expect: { status: 204, body: "" },
  },
  {
    title: "a Content-Type of the plugin's own is kept",
    chain: answer("own-type"),
    expect: { body: "a,b", headers: { "content-type": ["text/csv"] } },
  },
  {
    title: "a redirect goes out as it was set",
    chain: answer("redirect"),
    expect: { status: 302, headers: { location: ["/elsewhere?x=1"] } },
  },
  {
    title: "Set-Cookie may be repeated",
    chain: answer("cookies"),
    expect: { headers: { "set-cookie": ["a=1; Path=/", "b=2, with a comma"] } },
  },
  {
    title: "a Response answers with status, fields and body",
    chain: answer("response"),
    expect: {
      status: 201,
      body: "made",
      upstream: null,
      headers: { "x-a": ["1"], "content-type": ["text/html"], "content-length": ["4"] },
    },
  },
  {
    title: "Response.json answers JSON",
    chain: answer("response-json"),
    expect: { json: { a: 1 }, headers: { "content-type": ["application/json"] } },
  },
  {
    title: "a Response without a body may repeat Set-Cookie",
    chain: answer("response-cookies"),
    expect: { body: "", headers: { "set-cookie": ["a=1", "b=2"], "content-length": ["0"] } },
  },
  {
    title: "a Response's right Content-Length is let pass",
    chain: answer("response-length"),
    expect: { body: "12345", headers: { "content-length": ["5"] } },
  },
  {
    title: "a Response that comes later answers, too",
    chain: answer("later", "rewrite"),
    expect: { body: "later", upstream: null },
  },
  {
    title: "a HEAD request is answered without the body",
    chain: answer("response"),
    request: { method: "HEAD" },
    expect: { status: 201, body: "", headers: { "content-length": ["4"] } },
  },
  {
    title: "a HEAD request with a body filter has no body and no length",
    chain: [...answer("response"), { plugin: shouts }],
    request: { method: "HEAD" },
    expect: { status: 201, body: "", without: ["content-length"] },
  },
  {
    title: "a HEAD request that is answered without a body gets no length",
    chain: answer("null"),
    request: { method: "HEAD" },
    expect: { body: "", headers: { "x-a": ["1"] }, without: ["content-length"] },
  },
  ...["etag", "etag-stream"].flatMap((action) =>
    ["GET", "HEAD"].map((method): Case => ({
      title: `an answer that the client has is 304, without a body: ${action}, ${method}`,
      chain: answer(action),
      request: { method, headers: { "If-None-Match": '"b", W/"a"' } },
      expect: { status: 304, body: "", without: ["content-length", "content-type"] },
    })),
  ),
  {
    title: "an answer that the client does not have is sent",
    chain: answer("etag"),
    request: { headers: { "If-None-Match": '"b"' } },
    expect: { body: "tagged" },
  },
  ...[204, 304].flatMap((status) =>
    [shouts, whole].map((plugin): Case => ({
      title: `the upstream's ${status} has no body after a body filter either: ${plugin.name}`,
      chain: [{ plugin }],
      upstream: () => ({ status, headers: { ETag: '"a"' }, body: "" }),
      expect: { status, body: "" },
    })),
  ),
  {
    title: "the upstream of a chain that filters bodies is asked for the whole of them, plain",
    chain: [{ plugin: shouts }],
    request: {
      headers: { Range: "bytes=0-1", "If-Range": '"a"', "Accept-Encoding": "gzip", "X-B": "1" },
    },
    upstream: ({ headers }) => ({
      headers: {
        ...{ ETag: '"a"', "Accept-Ranges": "bytes", "Content-MD5": "x", "Content-Digest": "x" },
        ...{ Digest: "x", "Repr-Digest": "x" },
      },
      body: ["range", "if-range", "accept-encoding", "x-b"]
        .map((name) => String(headers.get(name)))
        .join(" "),
    }),
    expect: {
      body: "NULL NULL NULL 1 (16)",
      headers: { etag: ['W/"a"'] },
      without: ["accept-ranges", "content-md5", "digest", "content-digest", "repr-digest"],
    },
  },
  {
    title: "the upstream of a chain that filters no bodies is asked as the client asks",
    chain: filter("set"),
    request: { headers: { Range: "bytes=0-1", "Accept-Encoding": "gzip" } },
    upstream: () => ({ headers: { ETag: '"a"', "Accept-Ranges": "bytes" }, body: "x" }),
    expect: {
      headers: { etag: ['"a"'], "accept-ranges": ["bytes"], "content-length": ["1"] },
      upstream: { field: { Range: "bytes=0-1", "Accept-Encoding": "gzip" } },
    },
  },
  ...[
    ["a part", 206, { "Content-Range": "bytes 0-4/11" }],
    ["compressed", 200, { "Content-Encoding": "gzip" }],
  ].map(([what, status, headers]): Case => ({
    title: `a body that is ${what as string} is not changed into one that its fields do not fit`,
    chain: [{ plugin: whole }],
    upstream: () => ({ status: status as number, headers: headers as FieldsInit, body: "short" }),
    expect: { status: 0, body: "", cut: true, failures: ["whole, bodyFilter"] },
  })),
  {
    title: "a part of a body that no filter changes goes by with its fields",
    chain: [{ plugin: digests }],
    upstream: () => ({
      status: 206,
      headers: { "Content-Range": "bytes 0-4/11", ETag: '"a"', "Content-MD5": "x" },
      body: "short",
    }),
    expect: {
      status: 206,
      body: "short",
      headers: {
        ...{ "content-range": ["bytes 0-4/11"], etag: ['"a"'], "content-md5": ["x"] },
        "content-length": ["5"],
      },
    },
  },
  {
    title: "what is no entity-tag is not made a weak one, and no field of the old body stays",
    chain: [{ plugin: digests }],
    upstream: () => ({
      headers: [
        ["ETag", "abc"],
        ["Accept-Ranges", "bytes"],
        ["Accept-Ranges", "none"],
      ],
      body: "short",
    }),
    expect: { body: "short", without: ["etag", "accept-ranges"] },
  },
  {
    title: "a compressed body that no filter changes goes by with its fields",
    chain: [{ plugin: digests }],
    upstream: () => ({ headers: { "Content-Encoding": "br" }, body: "short" }),
    expect: { body: "short", headers: { "content-encoding": ["br"] } },
  },
  {
    title: "the coding of a body that no filter decodes stays its field",
    chain: filter("coding"),
    upstream: () => ({ headers: { "Content-Encoding": "br" }, body: "short" }),
    expect: {
      body: "short",
      headers: { "content-encoding": ["br"] },
      failures: ["filters, headerFilter"],
    },
  },
  {
    title: "a stream answers piece by piece, without a length",
    chain: answer("stream"),
    expect: { body: "one two three", headers: { "x-a": ["1"] }, without: ["content-length"] },
  },
  {
    title: "a large stream arrives whole",
    chain: answer("stream-large"),
    expect: { body: /^x{499950}$/ },
  },
  {
    title: "a stream goes through the body filter",
    chain: [...answer("stream"), { plugin: shouts }],
    expect: { body: "ONE TWO THREE (13)" },
  },
  {
    title: "a stream that breaks cuts the connection",
    chain: answer("stream-breaks"),
    expect: { body: "one ", cut: true, failures: ["answers, access"] },
  },
  {
    title: "a HEAD request for a stream is answered without it",
    chain: answer("stream"),
    request: { method: "HEAD" },
    expect: { body: "", headers: { "x-a": ["1"] } },
  },
  ...["no-body-on-204", "bad-status"].map((action): Case => ({
    title: `an answer that HTTP does not allow is refused: ${action}`,
    chain: answer(action),
    expect: { status: 500, failures: ["answers, access"], upstream: null },
  })),
  {
    title: "content answers in place of the upstream",
    chain: serve("echo"),
    request: { method: "POST", body: "\u00e9" },
    expect: { body: "\u00c3\u00a9", headers: { "x-served": ["1"] }, upstream: null },
  },
  {
    title: "content may exit",
    chain: serve("exit"),
    expect: { status: 418, body: "short and stout", upstream: null },
  },
  {
    title: "content that answers nothing is an empty answer",
    chain: serve("nothing"),
    expect: { status: 200, body: "", upstream: null },
  },
  {
    title: "content that fails is answered 500",
    chain: serve("fails"),
    expect: { status: 500, upstream: null, failures: ["serves, content"] },
  },
  {
    title: "access runs before content, and its answer counts",
    chain: [...answer("status"), ...serve("echo")],
    expect: { status: 403, upstream: null },
  },

  // Header filters ------------------------------------------------------------------------------
  {
    title: "the upstream's response goes on as it came",
    chain: filter("nothing-known"),
    upstream,
    expect: {
      status: 201,
      body: "from upstream",
      headers: {
        "x-up": ["1"],
        "content-type": ["text/html"],
        "content-length": ["13"],
        "set-cookie": ["a=1", "b=2"],
      },
      without: ["x-accel-expires"],
      failures: ["filters, headerFilter"],
    },
  },
  {
    title: "headerFilter sets a field",
    chain: filter("set"),
    upstream,
    expect: { status: 201, headers: { "x-served-by": ["ts"], "x-up": ["1"] } },
  },
  {
    title: "headerFilter replaces a field",
    chain: filter("set-in-place"),
    upstream,
    expect: { status: 201, headers: { "x-up": ["changed"] } },
  },
  {
    title: "headerFilter sets several values",
    chain: filter("set-several"),
    upstream,
    expect: { status: 201, headers: { "x-up": ["1", "2"] } },
  },
  {
    title: "headerFilter appends a cookie to the upstream's",
    chain: filter("append"),
    upstream,
    expect: { status: 201, headers: { "set-cookie": ["a=1", "b=2", "c=3"] } },
  },
  {
    title: "headerFilter deletes a field",
    chain: filter("delete"),
    upstream,
    expect: { status: 201, without: ["x-up"] },
  },
  {
    title: "headerFilter sets a field to nothing",
    chain: filter("set-empty"),
    upstream,
    expect: { status: 201 },
  },
  {
    title: "headerFilter sets the Content-Type",
    chain: filter("type"),
    upstream,
    expect: { status: 201, headers: { "content-type": ["application/x-own"] } },
  },
  {
    title: "headerFilter sets a Location",
    chain: filter("location"),
    upstream,
    expect: { status: 201, headers: { location: ["/elsewhere"] } },
  },
  {
    title: "headerFilter sets the status",
    chain: filter("status"),
    upstream,
    expect: { status: 203, body: "from upstream" },
  },
  {
    title: "headerFilter deletes the length",
    chain: filter("length"),
    upstream,
    expect: { status: 201, body: "from upstream", without: ["content-length"] },
  },
  {
    title: "headerFilter may not set the length",
    chain: filter("length-set"),
    upstream,
    expect: {
      status: 201,
      headers: { "content-length": ["13"] },
      failures: ["filters, headerFilter"],
    },
  },
  {
    title: "headerFilter may not change the request",
    chain: filter("request"),
    upstream,
    expect: { status: 201, failures: ["filters, headerFilter"] },
  },
  {
    title: "bytes above 0x7f of a response's field are kept",
    chain: filter("bytes"),
    upstream: () => ({ headers: { "X-Up": "\u00ff\u0080" } }),
    expect: { headers: { "x-up": ["\u00ff\u0080"], "x-bytes": ["\u00ff\u0080\u00e9"] } },
  },
  {
    title: "headerFilter sees request and response",
    chain: filter("sees"),
    upstream,
    request: { method: "POST", url: "/a%2Fb?", headers: { "X-B": "b" }, body: "x" },
    expect: {
      status: 201,
      headers: {
        "x-seen": ['[201,"1",["a=1","b=2"],"text/html","13",false,"POST","/a%2Fb?","b"]'],
      },
    },
  },
  {
    title: "headerFilter sees an answer of the chain's own",
    chain: [...answer("text"), ...filter("sees")],
    expect: {
      status: 401,
      headers: {
        "x-seen": ['[401,null,[],"text/plain; charset=utf-8","5",false,"GET","/",null]'],
      },
    },
  },

  // Body filters --------------------------------------------------------------------------------
  {
    title: "bodyFilter replaces each piece",
    chain: [{ plugin: shouts }],
    upstream: pieces,
    expect: { body: "ONE TWO THR\u00c3\u00a9E (14)", without: ["content-length"] },
  },
  {
    title: "bodyFilter of an answer whose length was known clears the length",
    chain: [{ plugin: shouts }],
    upstream,
    expect: { status: 201, body: "FROM UPSTREAM (13)", without: ["content-length"] },
  },
  {
    title: "bodyFilter gets an empty body, too",
    chain: [{ plugin: shouts }],
    upstream: () => ({ body: "" }),
    expect: { body: " (0)" },
  },
  {
    title: "bodyFilter gets an answer of the chain's own",
    chain: [...answer("text"), { plugin: shouts }],
    expect: { status: 401, body: "CAF\u00c3\u00a9 (5)" },
  },
  {
    title: "bodyFilter of a HEAD request is not run",
    chain: [{ plugin: shouts }],
    request: { method: "HEAD" },
    upstream: () => ({ headers: { "Content-Length": "100", "X-Up": "1" } }),
    expect: { body: "", headers: { "x-up": ["1"] }, without: ["content-length"] },
  },
  {
    title: "a body that is collected comes at once",
    chain: [{ plugin: whole }],
    upstream: pieces,
    expect: { body: "[14] one two thr\u00c3\u00a9e" },
  },
  {
    title: "a body that is too long to be collected is let pass, with an error",
    chain: [{ plugin: whole }],
    upstream: () => ({ body: [twice.slice(0, 40), twice.slice(40)] }),
    expect: { body: twice, failures: ["whole, bodyFilter"] },
  },
  {
    title: "a body that is too long to be collected cuts the connection where errors are closed",
    chain: [{ plugin: whole, options: { onError: "closed" } }],
    upstream: () => ({ body: [twice] }),
    expect: { status: 0, body: "", cut: true, failures: ["whole, bodyFilter"] },
  },
  {
    title: "two body filters run one after the other",
    chain: [{ plugin: whole, options: { priority: 1 } }, { plugin: shouts }],
    upstream: () => ({ body: "abc" }),
    expect: { body: "[3] ABC (7)" },
  },
];
