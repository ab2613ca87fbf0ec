/** Cases of the shared suite: forms as browsers, curl and .NET send them, and what is refused of them. */
import type { Case } from "./case.ts";
import { reads } from "./plugins.ts";

const MULTIPART = "multipart/form-data; boundary=sep";
const URLENCODED = "application/x-www-form-urlencoded";
const MALFORMED = "[reads] the request's form is malformed";

/** A byte string's bytes. */
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));
const utf8 = (text: string): string => Buffer.from(text).toString("latin1");

function part(disposition: string, content: string, ...fields: string[]): string {
  const head = [`Content-Disposition: ${disposition}`, ...fields].join("\r\n");
  return `--sep\r\n${head}\r\n\r\n${content}\r\n`;
}
const multipart = (disposition: string, content: string, ...fields: string[]): string =>
  `${part(disposition, content, ...fields)}--sep--\r\n`;

interface Form {
  readonly what: string;
  readonly type?: string;
  readonly body: string;
  /** What is found of it, other characters than those of ASCII as "?". */
  readonly found: unknown[];
}

const read: readonly Form[] = [
  {
    what: "a name without quotes, a file's name by RFC 8187",
    body: multipart("form-data; name=file; filename*=utf-8''a%20b.txt", "hi"),
    found: [["file", ["a b.txt", "text/plain", "hi"]]],
  },
  {
    what: "of .NET: both names, Content-Type first",
    body: [
      '--sep\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="x"',
      `\r\n\r\n${utf8("\u00e9")}\r\n`,
      multipart(`form-data; name=f; filename="=?utf-8?B?w6k=?="; filename*=utf-8''%C3%A9.txt`, "1"),
    ].join(""),
    found: [
      ["x", "?"],
      ["f", ["?.txt", "text/plain", "1"]],
    ],
  },
  {
    what: "of .NET: a name by RFC 2047",
    body: multipart('form-data; name="=?utf-8?B?YWI=?="', "1"),
    found: [["ab", "1"]],
  },
  {
    what: "of browsers: escapes and UTF-8",
    body: multipart(
      utf8('form-data; name="a%22b%0D%0A\u00e9%20"; filename="%22.png"'),
      "\0\r\n--se",
      "Content-Type: image/png",
    ),
    found: [['a"b\r\n?%20', ['".png', "image/png", "\0\r\n--se"]]],
  },
  {
    what: "of browsers: no file chosen",
    body: multipart(
      'form-data; name="f"; filename=""',
      "",
      "Content-Type: application/octet-stream",
    ),
    found: [["f", ["", "application/octet-stream", ""]]],
  },
  {
    what: "of curl before 7.81: backslashes",
    body: multipart('form-data; name="a\\"b"; filename="C:\\dir\\f.txt"', "1"),
    found: [['a"b', ["C:\\dir\\f.txt", "text/plain", "1"]]],
  },
  {
    what: "preamble and epilogue",
    body: `pre\r\namble\r\n${multipart('form-data; name="a"', "1")}epilogue\r\n--sep\r\n`,
    found: [["a", "1"]],
  },
  {
    what: "a part's charset",
    body: multipart('form-data; name="a"', "\u00e9", "Content-Type: text/plain; charset=latin1"),
    found: [["a", "?"]],
  },
  {
    what: "a boundary in quotes",
    type: 'Multipart/Form-Data; charset=utf-8; Boundary="a b"',
    body: "--a b\r\nCONTENT-DISPOSITION: Form-Data;Name=a;\r\n\r\n1\r\n--a b--",
    found: [["a", "1"]],
  },
  {
    what: "a field's line that is folded",
    body: "--sep\r\nContent-Disposition: form-data;\r\n name=a\r\n\r\n1\r\n--sep--",
    found: [["a", "1"]],
  },
  { what: "no part", body: "--sep--\r\n", found: [] },
  {
    what: "urlencoded, its odd ones",
    type: `${URLENCODED}; charset=UTF-8`,
    body: "a=1&&b&%zz=%&c=%C3%A9=1",
    found: [
      ["a", "1"],
      ["b", ""],
      ["%zz", "%"],
      ["c", "?=1"],
    ],
  },
];

interface Refused {
  readonly what: string;
  readonly type?: string;
  readonly body: string;
  readonly status?: number;
  readonly told?: string;
}

const refused: readonly Refused[] = [
  { what: "no end", body: part('form-data; name="a"', "1") },
  { what: "a part without a name", body: multipart("form-data", "1") },
  { what: "a part that is no form's", body: multipart('attachment; name="a"', "1") },
  { what: "a part without fields", body: "--sep\r\n\r\n1\r\n--sep--" },
  { what: "two names", body: multipart('form-data; name="a"; name="b"', "1") },
  {
    what: "two dispositions",
    body: multipart("form-data; name=a", "1", "Content-Disposition: form-data; name=b"),
  },
  { what: "quotes without an end", body: multipart('form-data; name="a', "1") },
  { what: "a name that is no UTF-8", body: multipart('form-data; name="\u00e9"', "1") },
  { what: "a text that is no UTF-8", body: multipart('form-data; name="a"', "\u00e9") },
  { what: "an unknown charset", body: multipart("form-data; name=a; filename*=no'x'y", "1") },
  { what: "urlencoded that is no UTF-8", type: URLENCODED, body: "a=%FF" },
  {
    what: "a part in base64",
    body: multipart("form-data; name=a", "MQ==", "Content-Transfer-Encoding: base64"),
    status: 415,
    told: '[reads] a part of the form has the Content-Transfer-Encoding "base64"',
  },
  {
    what: "too many parts",
    body: `${part("form-data; name=a", "").repeat(10_001)}--sep--`,
    status: 413,
    told: "[reads] the form has more than 10000 parts",
  },
];

const request = ({ type = MULTIPART, body }: Form | Refused): NonNullable<Case["request"]> => ({
  method: "POST",
  headers: { "Content-Type": type },
  body: bytes(body),
});
const chain = [{ plugin: reads, conf: { action: "form" } }];

export const formCases: readonly Case[] = [
  ...read.map((form): Case => {
    const seen = JSON.stringify(form.found);
    return {
      title: `a form is read: ${form.what}`,
      chain,
      request: request(form),
      expect: { upstream: { body: form.body, field: { "X-Seen": seen } } },
    };
  }),
  ...refused.map((form): Case => ({
    title: `a form is refused: ${form.what}`,
    chain,
    request: request(form),
    expect: { status: form.status ?? 400, upstream: null, lines: [form.told ?? MALFORMED] },
  })),
];
