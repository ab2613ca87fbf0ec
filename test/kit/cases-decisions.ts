/** Cases of the shared suite: what a handler decides stands, whatever becomes of the others. */
import type { Case } from "./case.ts";
import { decides, decides2, decides3, redacts, whole } from "./plugins.ts";
import type { MemberOptions } from "../../src/testing/types.ts";

const open: MemberOptions = { onError: "open", onTimeout: "open" };
const upstream: Case["upstream"] = () => ({ body: "from upstream" });

const plugins = [decides, decides2, decides3];

/** Handlers of one phase, in this order. */
const chain = (...members: [action: string, options?: MemberOptions][]): Case["chain"] =>
  members.map(([action, options], i) => ({
    plugin: plugins[i]!,
    conf: { action },
    ...(options === undefined ? {} : { options }),
  }));

const told = (before: string | null, tenant: string | null): Record<string, string> => ({
  "X-Told": JSON.stringify([before, tenant]),
});

export const decisionCases: readonly Case[] = [
  {
    title:
      "an answer stands when the handler's ctx.ctx cannot be carried, whatever another's policy",
    chain: chain(["lone surrogate, 403"], ["429", open]),
    request: { method: "POST", body: '{"tenant":"\\ud800"}' },
    upstream,
    expect: { status: 403, upstream: null, failures: ["decides, access"] },
  },
  {
    title: "what cannot be carried is absent for the next handler, too",
    chain: chain(["lone surrogate"], ["tells"]),
    upstream,
    expect: { upstream: { field: told(null, null) }, failures: ["decides, access"] },
  },
  {
    title:
      "a variable that nginx does not define takes its handler's changes with it, and no other's answer",
    chain: chain(["undefined variable", open], ["429", open]),
    upstream,
    expect: { status: 429, upstream: null, failures: ["decides, access"] },
  },
  {
    title: "what the handler had changed that is let pass does not reach the upstream",
    chain: chain(["undefined variable", open], ["tells"]),
    upstream,
    expect: { upstream: { field: told(null, null) }, failures: ["decides, access"] },
  },
  {
    title: "the same where it is the last",
    chain: chain(["tells"], ["undefined variable", open]),
    upstream,
    expect: {
      upstream: { fields: [["X-Told", "[null,null]"]] },
      failures: ["decides-2, access"],
    },
  },
  {
    title: "a variable that nginx does not define is closed by its handler's own policy",
    chain: chain(["undefined variable", { onError: 451 }], ["429", open]),
    upstream,
    expect: { status: 451, upstream: null, failures: ["decides, access"] },
  },
  {
    title: "an answer stands when nginx refuses its handler's variable",
    chain: chain(["undefined variable, 403", open]),
    upstream,
    expect: { status: 403, upstream: null, failures: ["decides, access"] },
  },
  {
    title: "a variable that is refused at a question ends the handler",
    chain: chain(["variable refused at a question", open], ["tells"]),
    upstream,
    expect: { upstream: { field: told(null, null) }, failures: ["decides, access"] },
  },
  {
    title: "a handler that was let pass on its timeout changes nothing any more",
    chain: chain(["late change", { onTimeout: "open", timeoutMs: 50 }], ["wait"], ["tells"]),
    upstream,
    expect: {
      upstream: { fields: [["X-Told", "[null,null]"]] },
      failures: ["decides, access"],
    },
  },
  ...["403, then throws", "403, then waits"].flatMap((action) =>
    ([open, {}] as MemberOptions[]).map((options): Case => ({
      title: `an answer stands: ${action}, ${options === open ? "open" : "closed"}`,
      chain: chain([action, { ...options, timeoutMs: 50 }], ["429"]),
      upstream,
      expect: { status: 403, upstream: null, failures: ["decides, access"] },
    })),
  ),
  {
    title: "open undoes what a question had carried to nginx",
    chain: chain(["asked, then throws", open], ["tells"]),
    request: { url: "/as/sent?y=2", headers: [["X-Client", "c"]] },
    vars: { known: "before" },
    upstream,
    expect: {
      without: ["x-before"],
      upstream: {
        uri: "/as/sent?y=2",
        field: { "X-Client": "c", ...told(null, null) },
      },
      failures: ["decides, access"],
    },
  },
  {
    title:
      "each plugin's bufferResponse is its own: a body that is too long for one is whole for another",
    chain: [{ plugin: whole }, { plugin: redacts }],
    upstream: () => ({ body: [`${"a".repeat(40)} sec`, `ret ${"b".repeat(40)}`] }),
    expect: {
      body: `${"a".repeat(40)} ****** ${"b".repeat(40)}`,
      failures: ["whole, bodyFilter"],
    },
  },
  {
    title: "a body that is too long for all is cut where one of them is closed",
    chain: [{ plugin: whole }, { plugin: redacts }],
    upstream: () => ({ body: [`${"a".repeat(5000)} sec`, "ret"] }),
    expect: {
      status: 0,
      body: "",
      cut: true,
      failures: ["whole, bodyFilter", "redacts, bodyFilter"],
    },
  },
];
