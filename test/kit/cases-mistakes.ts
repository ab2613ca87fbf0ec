/** Cases of the shared suite: mistakes of clients, which no policy lets pass and no stack reports. */
import type { Case } from "./case.ts";
import { reads } from "./plugins.ts";

const FORM = "application/x-www-form-urlencoded";
const UTF8_BROKEN = Uint8Array.of(0x22, 0xc3, 0x28, 0x22);

interface Mistake {
  readonly what: string;
  readonly action: string;
  readonly type?: string;
  readonly coding?: string;
  readonly body: string | Uint8Array;
  readonly status: 400 | 413 | 415;
  readonly told: string;
}

const json = "the request's JSON is malformed";
const text = "the request's body, as UTF-8 text, is malformed";
const form = "the request's form is malformed";

const mistakes: readonly Mistake[] = [
  { what: "JSON without its end", action: "json", body: "{", status: 400, told: json },
  { what: "no JSON", action: "json", body: "a=1", status: 400, told: json },
  { what: "an empty body", action: "json", body: "", status: 400, told: json },
  {
    what: "JSON whose error quotes line breaks",
    action: "json",
    body: '{"a":\n2026/01/01 00:00:00 [error] 1#1: forged',
    status: 400,
    told: json,
  },
  { what: "JSON that is no UTF-8", action: "json", body: UTF8_BROKEN, status: 400, told: text },
  { what: "text that is no UTF-8", action: "text", body: UTF8_BROKEN, status: 400, told: text },
  {
    what: "a multipart form that is none",
    action: "form",
    type: "multipart/form-data; boundary=sep",
    body: "garbage",
    status: 400,
    told: form,
  },
  {
    what: "a multipart form without a boundary",
    action: "form",
    type: "multipart/form-data",
    body: "--sep--\r\n",
    status: 400,
    told: form,
  },
  {
    what: "a form of another type",
    action: "form",
    type: "text/plain",
    body: "a=1",
    status: 415,
    told: `the request's content-type is "text/plain": a form is multipart/form-data or ${FORM}`,
  },
  {
    what: "a form without a type",
    action: "form",
    body: "a=1",
    status: 415,
    told: `the request's content-type is "": a form is multipart/form-data or ${FORM}`,
  },
  ...["json", "text", "form"].map((action): Mistake => ({
    what: `a compressed body: ${action}`,
    action,
    type: FORM,
    coding: "gzip",
    body: "\x1f\x8b",
    status: 415,
    told: 'the request\'s content-encoding is "gzip": read bytes() or body, and decode it',
  })),
  {
    what: "more than was asked for, in memory",
    action: "too-large",
    body: "12345678901",
    status: 413,
    told:
      "the request's body has 11 bytes, and at most 10 were asked for: " +
      "read ctx.request.body, or pass a larger maxBytes",
  },
  {
    what: "more than was asked for, in a file",
    action: "json",
    body: JSON.stringify("x".repeat(1_100_000)),
    status: 413,
    told:
      "the request's body has more, and at most 1048576 were asked for: " +
      "read ctx.request.body, or pass a larger maxBytes",
  },
];

const TITLES = { 400: "Bad Request", 413: "Content Too Large", 415: "Unsupported Media Type" };

export const mistakeCases: readonly Case[] = [
  ...mistakes.flatMap(({ what, action, type, coding, body, status, told }) =>
    (["closed", "open", 503] as const).map((onError): Case => ({
      title: `the client's mistake is answered ${status}, policy ${onError}: ${what}`,
      chain: [{ plugin: reads, conf: { action }, options: { onError } }],
      request: {
        method: "POST",
        headers: {
          ...(type === undefined ? {} : { "Content-Type": type }),
          ...(coding === undefined ? {} : { "Content-Encoding": coding }),
        },
        body,
      },
      expect: {
        status,
        headers: { "content-type": ["application/problem+json"] },
        json: { type: "about:blank", title: TITLES[status], status },
        upstream: null,
        lines: [`[reads] ${told}`],
      },
    })),
  ),
  {
    title: "a handler may catch the client's mistake",
    chain: [{ plugin: reads, conf: { action: "caught" } }],
    request: { method: "POST", body: "{" },
    expect: { upstream: { body: "{", field: { "X-Seen": '"bad_request"' } } },
  },
];
