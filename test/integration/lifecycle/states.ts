/**
 * The states of the runtime in which nginx may be told to end, each as a configuration and the
 * steps that lead to it. Shared by the tests of QUIT and TERM.
 */
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import type { Nginx, NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

/** Requests in flight. */
export type Asked = Promise<unknown>[];

export interface State {
  title: string;
  options: NginxOptions;
  /** Leads there. The promises that it returns may fail, when nginx ends under them. */
  enter: (nginx: Nginx) => Promise<Asked>;
}

const locations = {
  "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
  "/sleep": content(`t.reply(ts.import("wait.ts").sleep(60000))`),
  "/spin": content(`t.reply(ts.import("wait.ts").spinForever())`),
  "/short-spin": content(`
    t.reply(ts.call(ts.import("wait.ts").spinForever, { timeout_ms = 100 }))`),
  "/notify-sleep": content(`t.reply(ts.notify(ts.import("wait.ts").sleep, 60000))`),
  "/stop": content(`t.reply(ts.stop())`),
  "/fault": content(`t.reply(ts.import("faults.ts").exit(3))`),
  "/children": content(`t.reply(ts.import("children.ts").statuses(20, 5))`),
};

async function inFlight(nginx: Nginx, path: string): Promise<Asked> {
  await untilState(nginx, "ready");
  const asked = nginx.ask(path);
  asked.catch(() => undefined);
  await until("the call is in flight", async () => (await statsOf(nginx)).pending === 1);
  return [asked];
}

/** A start whose host is a file below the prefix, which only nginx knows. */
function withHost(source: string): NginxOptions {
  return {
    files: { "host.cjs": source },
    initWorker: `
      local t = require "support"
      t.start {
          host = ngx.config.prefix() .. "host.cjs",
          start_timeout_ms = 60000,
      }`,
    locations: {
      ...locations,
      "/_stats": content(`t.json(ts.stats())`),
    },
  };
}

const base: NginxOptions = { ts: { timeout_ms: 30_000 }, locations };
const nothing = (): Promise<Asked> => Promise.resolve([]);

/** States without a request in flight: both QUIT and TERM end nginx soon. */
export const idleStates: State[] = [
  { title: "the worker has just begun", options: base, enter: nothing },
  {
    title: "Node is starting, waiting",
    options: withHost("exports.main = () => setInterval(() => undefined, 1000);"),
    enter: nothing,
  },
  {
    title: "Node is starting, in an endless loop",
    options: withHost("exports.main = () => { for (;;); };"),
    enter: nothing,
  },
  {
    title: "Node is ready and idle",
    options: base,
    enter: async (nginx: Nginx): Promise<Asked> => {
      await untilState(nginx, "ready");
      return [];
    },
  },
  {
    title: "Node has served",
    options: base,
    enter: async (nginx: Nginx): Promise<Asked> => {
      for (let i = 0; i < 10; i++) await nginx.json("/add");
      return [];
    },
  },
  {
    title: "a handler had child processes",
    options: base,
    enter: async (nginx: Nginx): Promise<Asked> => {
      await nginx.json("/children");
      return [];
    },
  },
  {
    title: "a notification is being handled",
    options: base,
    enter: async (nginx: Nginx): Promise<Asked> => {
      await nginx.json("/notify-sleep");
      await nginx.json("/add");
      return [];
    },
  },
  {
    title: "a handler that nobody waits for any more loops without end",
    options: base,
    enter: async (nginx: Nginx): Promise<Asked> => {
      await untilState(nginx, "ready");
      const answer = await nginx.json<Answer>("/short-spin");
      if (answer.code !== "timeout") throw new Error(JSON.stringify(answer));
      return [];
    },
  },
  {
    title: "the start has failed",
    options: {
      ts: { libnode: "/nonexistent/libnode.so" },
      locations,
      allowLog: [/\/nonexistent\/libnode\.so/],
    },
    enter: async (nginx: Nginx): Promise<Asked> => {
      await nginx.json("/add");
      return [];
    },
  },
  {
    title: "the environment has ended by itself",
    options: { ...base, allowLog: [/exit/] },
    enter: async (nginx: Nginx): Promise<Asked> => {
      await nginx.json("/fault");
      return [];
    },
  },
  {
    title: "the runtime was stopped",
    options: base,
    enter: async (nginx: Nginx): Promise<Asked> => {
      await nginx.json("/add");
      await nginx.json("/stop");
      return [];
    },
  },
];

/** States with a request in flight: TERM ends nginx soon all the same. */
export const busyStates: State[] = [
  {
    title: "an async call is in flight",
    options: base,
    enter: (nginx: Nginx): Promise<Asked> => inFlight(nginx, "/sleep"),
  },
  {
    title: "a call is in flight whose handler loops without end",
    options: base,
    enter: (nginx: Nginx): Promise<Asked> => inFlight(nginx, "/spin"),
  },
  {
    title: "a call waits for a start that does not come",
    options: withHost("exports.main = () => setInterval(() => undefined, 1000);"),
    enter: async (nginx: Nginx): Promise<Asked> => {
      const asked = nginx.ask("/add");
      asked.catch(() => undefined);
      await until("the call waits", async () => (await statsOf(nginx)).pending === 1);
      return [asked];
    },
  },
];
