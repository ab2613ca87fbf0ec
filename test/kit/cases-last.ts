/** Cases of the shared suite: the phases that come after others of their kind. */
import type { Case } from "./case.ts";
import { edits, last, mark1, serves, shouts, whole } from "./plugins.ts";

const upstream: Case["upstream"] = () => ({ headers: { "X-Up": "up" }, body: ["ONE ", "two"] });

export const lastCases: readonly Case[] = [
  {
    title: "beforeProxy sees the request as all access handlers have left it, and may ask nginx",
    chain: [{ plugin: last }, { plugin: edits, conf: { action: "uri-path" } }, { plugin: mark1 }],
    request: { url: "/old?x" },
    upstream,
    expect: {
      upstream: { uri: "/new", field: { "X-Last": "GET /new mark-1" } },
      headers: { "x-order": ["last", "mark-1"] },
    },
  },
  {
    title: "beforeProxy may answer: the upstream is not asked",
    chain: [{ plugin: last, conf: { answers: true } }],
    expect: { status: 403, body: "no further here ", upstream: null },
  },
  {
    title: "beforeProxy comes before content, too",
    chain: [
      { plugin: last, conf: { answers: true } },
      { plugin: serves, conf: { action: "echo" } },
    ],
    expect: { status: 403, body: "no further here " },
  },
  {
    title: "delayedBodyFilter gets each piece after the body filters of all",
    chain: [{ plugin: last }, { plugin: shouts }],
    upstream,
    expect: { body: "one two (7) here up", without: ["content-length"] },
  },
  {
    title: "delayedBodyFilter gets the whole of a body that was collected",
    chain: [{ plugin: last }, { plugin: whole }],
    upstream,
    expect: { body: "[7] one two here up" },
  },
  {
    title: "delayedBodyFilter alone clears the length, and gets an empty body",
    chain: [{ plugin: last }],
    upstream: () => ({ headers: { "Content-Length": "0" }, body: "" }),
    expect: { body: " here ", without: ["content-length"] },
  },
  {
    title: "delayedBodyFilter of a HEAD request is not run",
    chain: [{ plugin: last }],
    request: { method: "HEAD" },
    upstream: () => ({ headers: { "Content-Length": "3" } }),
    expect: { body: "", without: ["content-length"] },
  },
];
