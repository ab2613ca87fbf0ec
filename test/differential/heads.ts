/** Requests and responses made up at random, as bytes: what clients send, and what they should not. */
import fc from "fast-check";
import { type Edit, edit } from "./edits.ts";

export interface Body {
  readonly framing: "length" | "chunked";
  readonly text: string;
  readonly type: string;
  readonly expect: boolean;
}

export interface Reply {
  readonly status: string;
  readonly fields: readonly (readonly [name: string, value: string])[];
  readonly framing: "length" | "chunked" | "close";
  readonly text: string;
}

export interface Head {
  readonly method: string;
  readonly target: string;
  /** "": HTTP/0.9, which has no fields. */
  readonly version: string;
  /** Whole lines. */
  readonly lines: readonly string[];
  readonly body: Body | undefined;
  /** How the plugin that reads everything reads the body. */
  readonly read: string;
  readonly edit: Edit;
  readonly reply: Reply;
}

const words = (text: string): fc.Arbitrary<string> => fc.constantFrom(...text.split(" "));
const byte = (from: number): fc.Arbitrary<string> =>
  fc.integer({ min: from, max: 0xff }).map((code) => String.fromCharCode(code));
/** Shrinks towards the first choice. */
const often = <T>(...choices: [weight: number, arbitrary: fc.Arbitrary<T>][]): fc.Arbitrary<T> =>
  fc.oneof(
    { withCrossShrink: true },
    ...choices.map(([weight, arbitrary]) => ({ weight, arbitrary })),
  );
const listOf = <T>(item: fc.Arbitrary<T>, most: number): fc.Arbitrary<T[]> =>
  fc.array(item, { maxLength: most });

// The request line --------------------------------------------------------------------------------

const method = often(
  [12, fc.constant("GET")],
  [6, words("POST PUT DELETE PATCH HEAD OPTIONS")],
  [2, words("PROPFIND MKCOL COPY LOCK PURGE FOO M-SEARCH A_B")],
  [1, words("TRACE CONNECT get G@T")],
);

const segment = often(
  [6, words("a b.txt api v1 users x~y a+b ;p=1 : @ $uri * ' (c) , = &")],
  [3, words("%2F %2f %20 %C3%A9 %c3%a9 %ff %25 %252F %3F %23 %41 %7e %5C %0A")],
  [2, fc.constantFrom("", "", ".", "..", "%2e%2e", "..a", "%2E")],
  [2, fc.constantFrom("\xe9", "\xc3\xa9", "\xff", "\x80b")],
  [1, words('| " < > \\ ^ ` { } %00 %zz % [ ] a#b')],
);
const path = listOf(segment, 5).map((segments) => `/${segments.join("/")}`);
const argument = often(
  [6, words("a a=1 b=2 a=2 id=7 = =c b= x=y=z")],
  [3, words("a=%20 a=+ e=%2F%26 é=%C3%A9 %61=1 a=%ff a=% a=%zz a%00b=1 a[]=1")],
  [2, fc.constantFrom("q=\xe9", "q=\xc3\xa9", "\xff=1", "?", "/", "a=?b", "")],
  [1, words("__proto__=1 constructor=1 tenant=1 toString a#b=1")],
).map((text) => text.replaceAll("é", "\xc3\xa9"));
const query = often<string>(
  [4, fc.constant("")],
  [1, fc.constant("?")],
  [5, listOf(argument, 5).map((pairs) => `?${pairs.join("&")}`)],
);
const origin = fc.tuple(path, query).map((parts) => parts.join(""));
const authority = words(
  "a.example A.Example:80 other.example:8080 u:p@x.example [::1] [::1]:9000 x:0 x: 127.0.0.1 a_b x%41",
);
const absolute = fc
  .tuple(
    words("http:// https:// HTTP:// ftp://"),
    authority,
    fc.oneof(fc.constant(""), path),
    query,
  )
  .map((parts) => parts.join(""));
const long = fc
  .tuple(words("/ /p? /%2F /a/../ /\xe9"), fc.integer({ min: 2000, max: 20_000 }))
  .map(([start, length]) => start + "x/".repeat(length / 2));
const target = often(
  [20, origin],
  [4, absolute],
  [1, fc.constant("*")],
  [1, words("a.example:80 a //x //x.example/y ///")],
  [1, long],
);
const version = often(
  [20, fc.constant("HTTP/1.1")],
  [3, fc.constant("HTTP/1.0")],
  [1, fc.constantFrom("", "HTTP/1.2", "HTTP/2.0", "http/1.1")],
);

// Fields ------------------------------------------------------------------------------------------

const text = fc
  .string({ maxLength: 12, unit: byte(0x20) })
  .map((all) => all.replaceAll("\x7f", ""));
const value = often(
  [4, words('1 v a,b W/"e" "q" gzip;q=0.5 2.0 close')],
  [2, fc.constantFrom("a, b", "", " ", "a\tb", "  padded  ", "\t", "a  b")],
  [2, fc.constantFrom("\xa0", "v\xa0", "\xa0v", "voil\xc3\xa0", "\xe9", "\x85v\x85", "\xff")],
  [1, fc.constantFrom("a\x01b", "a\x7fb", "\x0bv\x0c", "a\rb")],
  [3, text],
  [1, fc.integer({ min: 1000, max: 8192 }).map((length) => "v".repeat(length))],
);
const host = often(
  [8, words("a.example A.Example a.example:8080 127.0.0.1 [::1] [::1]:80 localhost")],
  [3, words("a.example: a.example:0 a.example:99999 a.example:080 a..b a. - _ a_b [fe80::1%eth0]")],
  [3, words("x# x?y x?role=admin&z= x\\y u:p@x x/y x%2Fy %61.example a,b xn--9ca x;y x&y x'y")],
  [1, fc.constantFrom("", "x y", "\xe9.example", "\xc3\xa9.example", "x\ty", "a".repeat(300))],
);
const hosts = often<string[]>(
  [20, fc.tuple(host)],
  [1, fc.constant([])],
  [1, fc.tuple(host, host)],
).map((all) => all.map((one) => `Host: ${one}`));

const knownName = words(
  "Accept Accept-Encoding Accept-Language Authorization Cache-Control Content-Type Date Depth " +
    "Destination Forwarded If-Match If-Modified-Since If-None-Match If-Range If-Unmodified-Since " +
    "Origin Overwrite Pragma Range Referer User-Agent Via X-Forwarded-For X-Real-IP Warning",
);
const connectionName = words("Connection Keep-Alive TE Trailer Upgrade Proxy-Connection Expect");
const oddName = words(
  "X_A x_secret X.A !#$%&'*+-.^_`|~ constructor __proto__ toString X-A_B _ - 1 has-Own",
);
const name = often(
  [6, words("X-A x-a X-B x-b X-Aa")],
  [5, knownName],
  [2, oddName],
  [1, connectionName],
);
const colon = often([10, fc.constant(": ")], [2, fc.constantFrom(":", ":\t", ":  \t ")]);
const field = fc.tuple(name, colon, value).map((parts) => parts.join(""));
const listField = fc.constantFrom(
  ...["Via: 1.1 cdn", "Via: 1.0 a, 1.1 b", 'If-None-Match: "a"', 'If-None-Match: W/"b", "c"'],
  ...["Accept-Encoding: gzip", "Accept-Encoding: br;q=1.0, *;q=0", "Range: bytes=0-4"],
  ...["Range: bytes=-3", "Range: bytes=0-1,3-4", 'If-Range: "a"', "Forwarded: for=1.2.3.4"],
  ...["X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2, ::1", "Accept: */*"],
);
const cookiePair = often(
  [4, words("a=1 b=2 a=3 session=abc")],
  [2, words('a="q" a=%20 constructor=1 __proto__=1 =x a a= a=b=c a="x')],
  [1, fc.constantFrom("c=\xe9", "c=\xc3\xa9", "", " ")],
);
const cookies = listOf(
  listOf(cookiePair, 4).map((pairs) => `Cookie: ${pairs.join("; ")}`),
  3,
);
const odd = fc.constantFrom(
  ...[" folded", "\tfolded", "X A: 1", ": nameless", "nocolon", "X-Space : 1", "X-\xe9: 1"],
  ...["X\x01: 1", "Transfer-Encoding: identity", "Transfer-Encoding: gzip, chunked", "X-A"],
);
const many = fc
  .tuple(fc.integer({ min: 50, max: 200 }), words("X-M x_m X-A"))
  .map(([count, start]) =>
    Array.from({ length: count }, (_, i) => `${start}${i % 3 === 0 ? "" : i}: ${i}`),
  );
const lines = fc
  .tuple(
    hosts,
    often([20, listOf(field, 6)], [1, many]),
    listOf(listField, 3),
    cookies,
    often<string[]>([20, fc.constant([])], [1, fc.tuple(odd)]),
    fc.nat(),
  )
  .map(([all, ...rest]) => {
    const turn = rest.pop() as number;
    const others = (rest as string[][]).flat();
    const at = others.length === 0 ? 0 : turn % (others.length + 1);
    return [...others.slice(at), ...all, ...others.slice(0, at)];
  });

// Bodies and answers ------------------------------------------------------------------------------

const content = often(
  [
    4,
    fc.constantFrom("", "a=1&b=2", '{"a":1}', "x".repeat(2000), "\0\xff\r\n\r\n", "GET / HTTP/1.1"),
  ],
  [2, fc.string({ maxLength: 40, unit: byte(0) })],
  [1, fc.constant("0123456789abcdef".repeat(5000))],
);
const body = often<Body | undefined>(
  [3, fc.constant(undefined)],
  [
    2,
    fc.record<Body>({
      framing: fc.constantFrom("length", "chunked"),
      text: content,
      type: words("application/json text/plain application/x-www-form-urlencoded a/b;c="),
      expect: often([5, fc.constant(false)], [1, fc.constant(true)]),
    }),
  ],
);

const replyName = often(
  [5, words("X-A x-a X-B x_secret Set-Cookie Link Vary Cache-Control")],
  [4, words("ETag Last-Modified Content-Type Content-Language Expires WWW-Authenticate Server")],
  [2, words("Date Via Age Allow Retry-After Warning P3P Content-Disposition Accept-Ranges")],
  [1, words("Content-Range Content-Encoding Connection Trailer Keep-Alive Upgrade Refresh")],
);
const reply = fc.record<Reply>({
  status: often(
    [6, fc.constant("200 OK")],
    [4, fc.constantFrom("200 Fine", "201 Created", "202", "204 No Content", "206 Partial Content")],
    [4, fc.constantFrom("301 Moved", "302 Found", "304 Not Modified", "299 Odd", "418 I'm")],
    [4, fc.constantFrom("400 Bad", "401 Unauthorized", "404 Not Found", "500 Oops", "503 Busy")],
  ),
  fields: listOf(fc.tuple(replyName, value), 6),
  framing: fc.constantFrom("length", "length", "chunked", "close"),
  text: content,
});

export const head: fc.Arbitrary<Head> = fc.record<Head>({
  method,
  target,
  version,
  lines,
  body,
  read: words("no no bytes text stream var request"),
  edit,
  reply,
});

// As bytes ----------------------------------------------------------------------------------------

function chunked(all: string): string {
  const pieces = all.match(/[^]{1,700}/g) ?? [];
  return `${pieces.map((piece) => `${piece.length.toString(16)};x=1\r\n${piece}\r\n`).join("")}0\r\n\r\n`;
}

/** @param n which of a connection's requests it is: what X-N says. */
export function requestBytes({ method: verb, target: to, ...one }: Head, n: number): string {
  if (one.version === "") return `${verb} ${to}\r\n`;
  const made = [
    `${verb} ${to} ${one.version}`,
    ...one.lines,
    `X-N: ${n}`,
    `X-Read: ${one.read}`,
    `X-Edit: ${Buffer.from(JSON.stringify(one.edit)).toString("base64")}`,
  ];
  const { body: sent } = one;
  if (sent !== undefined) {
    made.push(`Content-Type: ${sent.type}`);
    if (sent.expect) made.push("Expect: 100-continue");
    made.push(
      sent.framing === "length"
        ? `Content-Length: ${sent.text.length}`
        : "Transfer-Encoding: chunked",
    );
  }
  const after =
    sent === undefined ? "" : sent.framing === "length" ? sent.text : chunked(sent.text);
  return `${made.join("\r\n")}\r\n\r\n${after}`;
}

export function replyBytes({ status, fields, framing, text: all }: Reply): string {
  const made = [`HTTP/1.1 ${status}`, ...fields.map(([key, given]) => `${key}: ${given}`)];
  const hasBody = !/^(204|304)/.test(status);
  if (hasBody && framing === "length") made.push(`Content-Length: ${all.length}`);
  if (hasBody && framing === "chunked") made.push("Transfer-Encoding: chunked");
  const after = !hasBody ? "" : framing === "chunked" ? chunked(all) : all;
  return `${made.join("\r\n")}\r\n\r\n${after}`;
}
