/** Cases of the shared suite: what plugins see of a request, and what they change of it. */
import type { Case, CaseMember } from "./case.ts";
import { edits, looks, reads } from "./plugins.ts";

const edit = (action: string, phase = "access"): CaseMember[] => [
  { plugin: edits, conf: { action, phase } },
];
const read = (action: string): CaseMember[] => [{ plugin: reads, conf: { action } }];
const B = [
  ["X-A", "a"],
  ["X-B", "1"],
  ["X-C", "c"],
  ["x-b", "2"],
] as const;
const multipart = [
  '--sep\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n',
  '--sep\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n',
  "Content-Type: text/plain\r\n\r\nfile's text\r\n--sep--\r\n",
].join("");
const refused = { status: 500, upstream: null, failures: ["edits, access"] } as const;

export const requestCases: readonly Case[] = [
  {
    title: "order, case and repetition of fields are kept",
    chain: edit("nothing"),
    request: { headers: B },
    expect: { upstream: { method: "GET", uri: "/", fields: B, length: null, body: "" } },
  },
  {
    title: "a new field comes last",
    chain: edit("set"),
    request: { headers: B },
    expect: { upstream: { fields: [...B, ["X-New", "1"]] } },
  },
  {
    title: "a field that is set takes the place of all of its name",
    chain: edit("set-in-place"),
    request: { headers: B },
    expect: {
      upstream: {
        fields: [
          ["X-A", "a"],
          ["X-B", "two"],
          ["X-C", "c"],
        ],
      },
    },
  },
  {
    title: "a field that is set to several values: the first in its place, the others last",
    chain: edit("set-several"),
    request: { headers: B },
    expect: {
      upstream: {
        fields: [
          ["X-A", "a"],
          ["X-B", "1"],
          ["X-C", "c"],
          ["X-B", "2"],
          ["X-B", "3"],
        ],
      },
    },
  },
  {
    title: "a field that is appended comes last",
    chain: edit("append"),
    request: { headers: B },
    expect: {
      upstream: {
        fields: [
          ["X-A", "a"],
          ["X-B", "1"],
          ["X-C", "c"],
          ["x-b", "2"],
          ["X-B", "3"],
        ],
      },
    },
  },
  {
    title: "a field that is deleted is gone with all of its name",
    chain: edit("delete"),
    request: { headers: B },
    expect: {
      upstream: {
        fields: [
          ["X-A", "a"],
          ["X-C", "c"],
        ],
      },
    },
  },
  {
    title: "a field that is set to nothing is there, and empty",
    chain: edit("set-empty"),
    request: { headers: B },
    expect: {
      upstream: {
        fields: [
          ["X-A", "a"],
          ["X-B", ""],
          ["X-C", "c"],
        ],
      },
    },
  },
  {
    title: "a field that is set to no values is deleted",
    chain: edit("set-none"),
    request: { headers: B },
    expect: {
      upstream: {
        fields: [
          ["X-A", "a"],
          ["X-C", "c"],
        ],
      },
    },
  },
  {
    title: "bytes above 0x7f of a value go through as they are",
    chain: edit("copy-value"),
    request: { headers: { "X-Bytes": "caf\u00e9 \u00ff\u0080 \u00c3\u00a9" } },
    expect: { upstream: { field: { "X-Copy": "caf\u00e9 \u00ff\u0080 \u00c3\u00a9" } } },
  },
  {
    title: "a value that a plugin sets is bytes",
    chain: edit("bytes-in-value"),
    expect: { upstream: { field: { "X-Bytes": "caf\u00e9 \u00ff" } } },
  },
  {
    title: "names with an underscore do not reach plugins",
    chain: edit("fields"),
    request: { headers: { "X-A": "1", X_B: "2", "X-C": "" } },
    expect: {
      upstream: {
        fields: [
          ["X-A", "1"],
          ["X-C", ""],
          ["X-Seen", "X-A=1 | X-C="],
        ],
      },
    },
  },
  {
    title: "space around a value is not part of it",
    chain: edit("fields"),
    request: { headers: { "X-A": "  a  b\t" } },
    expect: {
      upstream: {
        fields: [
          ["X-A", "a  b"],
          ["X-Seen", "X-A=a  b"],
        ],
      },
    },
  },
  {
    title: "cookies are decoded, the first of a name wins",
    chain: edit("cookies"),
    request: {
      headers: [
        ["Cookie", "a=1; b=x%20y; a=2"],
        ["Cookie", 'c="q"; d'],
      ],
    },
    expect: { upstream: { field: { "X-Seen": '{"a":"1","b":"x y","c":"\\"q\\""}' } } },
  },
  ...(
    [
      ["/a%2Fb", "/a/b", "/a%2Fb"],
      ["/caf%C3%A9", "/caf\u00c3\u00a9", "/caf%C3%A9"],
      ["/a?", "/a", "/a?"],
      ["/a??b", "/a", "/a??b"],
      ["/?a", "/", "/?a"],
      ["/x?a=&a=1&b=%20+", "/x", "/x?a=&a=1&b=%20+"],
      ["/a/../b//c/./d", "/b/c/d", "/b/c/d"],
      ["/a%3Fb%23c%25", "/a?b#c%", "/a%3Fb%23c%25"],
      ["/a/%2e%2E/b/.", "/b/", "/b/"],
    ] as const
  ).map(([uri, path, url]): Case => ({
    title: `the target ${uri} is seen, and goes on, as it came`,
    chain: edit("url"),
    request: { url: uri },
    expect: { upstream: { uri, field: { "X-Seen": JSON.stringify([uri, uri, path, url]) } } },
  })),
  {
    title: "what the request line says is seen",
    chain: edit("query"),
    request: { method: "DELETE", url: "/?a=&a=1&b=%20+&c" },
    expect: {
      upstream: {
        method: "DELETE",
        field: {
          "X-Seen": '["DELETE","http","1.1",[["a",""],["a","1"],["b","  "],["c",""]]]',
        },
      },
    },
  },
  {
    title: "the method is changed",
    chain: [...edit("method"), { plugin: looks }],
    request: { method: "POST", body: "x" },
    expect: { upstream: { method: "PUT", body: "x", length: "1" } },
  },
  {
    title: "a method that nginx does not know is an error",
    chain: edit("method-unknown"),
    expect: refused,
  },
  {
    title: "a method cannot become HEAD",
    chain: edit("method-head"),
    expect: refused,
  },
  {
    title: "HEAD cannot become another method",
    chain: edit("method"),
    request: { method: "HEAD" },
    expect: refused,
  },
  {
    title: "a changed path drops the query",
    chain: edit("uri-path"),
    request: { url: "/old?q=1" },
    expect: { upstream: { uri: "/new" } },
  },
  {
    title: "later phases see the changed path",
    chain: [...edit("uri-path", "rewrite"), { plugin: looks }],
    request: { url: "/old?q=1", headers: B },
    expect: {
      upstream: { uri: "/new", field: { "X-Looks": '["GET","/new","/new","1, 2",0]' } },
    },
  },
  {
    title: "a changed query goes on as it was set",
    chain: edit("uri-query"),
    expect: { upstream: { uri: "/new?x=1&y=%20" } },
  },
  {
    title: "escapes of a changed path are kept",
    chain: edit("uri-escapes"),
    expect: { upstream: { uri: "/a%20b/%C3%A9%25?q=%2F" } },
  },
  {
    title: "an escaped slash of a changed path stays escaped",
    chain: edit("uri-slash"),
    expect: { upstream: { uri: "/a%2Fb" } },
  },
  {
    title: "a changed path that is not ASCII is escaped as UTF-8",
    chain: edit("uri-utf8"),
    expect: { upstream: { uri: "/caf%C3%A9?x=%C3%A9" } },
  },
  {
    title: "later phases see a changed path that is not ASCII",
    chain: [...edit("uri-utf8", "rewrite"), { plugin: looks }],
    expect: {
      upstream: { field: { "X-Looks": '["GET","/caf%C3%A9?x=%C3%A9","/caf?",null,0]' } },
    },
  },
  ...(
    [
      ["uri-more", "/projects/group%2Frepo", "/projects/group%2Frepo?t=7"],
      ["uri-more", "//a//./%2e%2e%2fb", "//a//./%2e%2e%2fb?t=7"],
      ["uri-under", "/a%2fb?x=%zz", "/up/a%2fb?x=%zz"],
      ["uri-back", "/a%2fb?x", "/a%2fb?x"],
      ["uri-under", "/caf\u00e9?\u00e9", "/up/caf%C3%A9?%C3%A9"],
      ["path", "/a%2fb?x=%20&y", "/v2/a%20b?x=%20&y"],
      ["path-under", "/x?id=1", "/v2/x?id=1"],
      ["query-text", "/a%2fb?x", "/a%2fb?b=%2f&c"],
      ["query-record", "/a%2fb?x", "/a%2fb?a=1+2&b=%26"],
      ["query-none", "/a%2fb?x", "/a%2fb"],
      ["query-set", "/a%2fb?a&tenant=1&b=%zz&&tenant=2&c=", "/a%2fb?a&tenant=7&b=%zz&&c="],
      ["query-set", "/a%2fb", "/a%2fb?tenant=7"],
      ["query-append", "/a%2fb?tenant=1", "/a%2fb?tenant=1&tenant=7"],
      ["query-delete", "/a%2fb?tenant=1&x=%41", "/a%2fb?x=%41"],
      ["query-delete", "/a%2fb?tenant=1", "/a%2fb"],
      ["query-delete", "/a%2fb?x", "/a%2fb?x"],
    ] as const
  ).flatMap(([action, url, uri]) =>
    ["rewrite", "access"].map((phase): Case => ({
      title: `the target ${url} is ${uri} after ${action} in ${phase}`,
      chain: [...edit(action, phase), { plugin: looks }],
      request: { url },
      expect: { upstream: { uri } },
    })),
  ),
  ...["url-set", "url-query"].map((action): Case => ({
    title: `the URL cannot be changed: ${action}`,
    chain: edit(action),
    expect: refused,
  })),
  {
    title: "the body is replaced, and its length with it",
    chain: [...edit("body"), { plugin: looks }],
    request: { method: "POST", body: "the client's" },
    expect: { upstream: { body: "replaced", length: "8" } },
  },
  {
    title: "a request without a body gets one",
    chain: edit("body-bytes"),
    request: { method: "POST" },
    expect: { upstream: { body: "\0\u00ff\u0080\n", length: "4" } },
  },
  {
    title: "the body is emptied",
    chain: edit("body-empty", "rewrite"),
    request: { method: "POST", body: "the client's" },
    expect: { upstream: { body: "", length: "0" } },
  },
  ...["bad-name", "bad-value", "hop-by-hop", "uri-bad", "upstream"].map((action): Case => ({
    title: `what HTTP does not allow is refused: ${action}`,
    chain: edit(action),
    expect: refused,
  })),
  ...[
    "length-set",
    "length-append",
    "length-delete",
    "length-and-body",
    "expect",
    "expect-delete",
  ].map((action): Case => ({
    title: `the request's framing is nginx's: ${action}`,
    chain: edit(action),
    request: { method: "POST", body: "GET / HTTP/1.1\r\n\r\n" },
    expect: refused,
  })),
  {
    title: "a field set before the upstream answers is in place of its own, one appended beside it",
    chain: edit("response-early"),
    upstream: () => ({ headers: { "X-Early": "2", "Set-Cookie": "up=1" }, body: "x" }),
    expect: { headers: { "x-early": ["1"], "set-cookie": ["early=1", "up=1"] } },
  },
  {
    title: "a JSON body is read",
    chain: read("json"),
    request: { method: "POST", body: '{"a":[1,"\u00e9"]}' },
    expect: {
      upstream: { body: '{"a":[1,"\u00c3\u00a9"]}', field: { "X-Seen": '{"a":[1,"?"]}' } },
    },
  },
  {
    title: "a urlencoded form is read",
    chain: read("form"),
    request: {
      method: "POST",
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
      body: "a=1&b=x+y%21&a=2",
    },
    expect: { upstream: { field: { "X-Seen": '[["a","1"],["b","x y!"],["a","2"]]' } } },
  },
  {
    title: "a multipart form is read, files too",
    chain: read("form"),
    request: {
      method: "POST",
      headers: { "Content-Type": "multipart/form-data; boundary=sep" },
      body: multipart,
    },
    expect: {
      upstream: { field: { "X-Seen": '[["a","1"],["f",["f.txt","text/plain","file\'s text"]]]' } },
    },
  },
  ...["bytes", "stream"].map((action): Case => ({
    title: `a large body, which is in a file, is read: ${action}`,
    chain: read(action),
    request: { method: "POST", body: "0123456789".repeat(20_000) },
    expect: {
      upstream: {
        length: "200000",
        body: "0123456789".repeat(20_000),
        field: { "X-Seen": '[200000,"8ddf9b2317645923"]' },
      },
    },
  })),
  {
    title: "a binary body is read",
    chain: read("bytes"),
    request: { method: "POST", body: Uint8Array.from({ length: 256 }, (_, i) => i) },
    expect: { upstream: { field: { "X-Seen": '[256,"40aff2e9d2d8922e"]' } } },
  },
  {
    title: "a request without a body has an empty one",
    chain: read("bytes"),
    expect: { upstream: { field: { "X-Seen": '[0,"e3b0c44298fc1c14"]' } } },
  },
  {
    title: "the request as one of Fetch",
    chain: read("fetch"),
    request: { method: "POST", url: "/p?q", body: "b" },
    expect: { upstream: { body: "b", field: { "X-Seen": '["POST","/p","b"]' } } },
  },
];
