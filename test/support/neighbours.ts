/**
 * Plugins that must not feel what another one of their environment does, and a constant load of
 * them that checks each answer: what it carries is in no other call.
 */
import { KeepAlive, type AskOptions, type Reply } from "./clients.js";
import { until } from "./deadline.js";
import { content, luaPhase, type ConfigParts } from "./nginx-config.js";

/** For NginxOptions.files: the plugins go below `plugins`, the module to the fixtures. */
export const NEIGHBOUR_FILES: Record<string, string> = {
  "modules/neighbour.ts": `
import { setTimeout as delay } from "node:timers/promises";
export function echo(text: string) {
  return { text, length: text.length };
}
export async function late(text: string) {
  await delay(text.length % 4);
  return { text, length: text.length };
}
`,
  "plugins/tag.ts": `
import { definePlugin } from "resty-ts";
export default definePlugin({
  name: "tag",
  access(ctx) {
    ctx.request.headers.set("x-access", "access " + ctx.request.headers.get("x-id"));
  },
  headerFilter(ctx) {
    ctx.response.headers.set("x-filter", "filter " + ctx.request.headers.get("x-id"));
  },
});
`,
};

/** Idempotent: one that is in flight when its environment ends is made again in the next. */
function call(name: string): string {
  return content(`
    ngx.req.read_body()
    t.reply(ts.import("neighbour.ts", { idempotent = true }).${name}(ngx.req.get_body_data()))`);
}

export const NEIGHBOUR_LOCATIONS: NonNullable<ConfigParts["locations"]> = {
  "= /neighbour/module": call("echo"),
  "= /neighbour/late": call("late"),
  "= /neighbour/access": `
    ${luaPhase("access", `require("resty.ts.http").access("tag")`)}
    ${content(`ngx.print(ngx.var.http_x_access)`)}`,
  "= /neighbour/filter": `
    ${content(`ngx.print("plain")`)}
    ${luaPhase("header_filter", `require("resty.ts.http").header_filter("tag")`)}`,
};

interface Kind {
  request(id: string): [path: string, options: AskOptions];
  check(id: string, reply: Reply): boolean;
}

function checkCall(id: string, reply: Reply): boolean {
  const { value } = reply.json<{ value?: { text: string; length: number } }>();
  return value?.text === id && value.length === id.length;
}

const KINDS = {
  module: {
    request: (id) => ["/neighbour/module", { method: "POST", body: id }],
    check: checkCall,
  },
  late: {
    request: (id) => ["/neighbour/late", { method: "POST", body: id }],
    check: checkCall,
  },
  access: {
    request: (id) => ["/neighbour/access", { headers: { "x-id": id } }],
    check: (id, reply) => reply.text === `access ${id}`,
  },
  filter: {
    request: (id) => ["/neighbour/filter", { headers: { "x-id": id } }],
    check: (id, reply) => reply.headers["x-filter"] === `filter ${id}` && reply.text === "plain",
  },
} satisfies Record<string, Kind>;

export type NeighbourKind = keyof typeof KINDS;
export const NEIGHBOUR_KINDS = Object.keys(KINDS) as NeighbourKind[];

export interface Load {
  /** How many right answers there were. */
  answered: number;
  /** What was wrong with the others. */
  readonly failures: string[];
  /** Resolves when so many more have come. */
  more(count: number): Promise<void>;
  stop(): Promise<void>;
}

/** So many connections, each with one request after the other, of all kinds in turn, until `stop`. */
export function startLoad(origin: string, connections: number, kinds = NEIGHBOUR_KINDS): Load {
  const pool = new KeepAlive(origin, connections);
  let running = true;
  const load: Load = {
    answered: 0,
    failures: [],
    more: (count) => {
      const goal = load.answered + load.failures.length + count;
      return until(
        `${String(count)} more answers`,
        () => load.answered + load.failures.length >= goal,
        30_000,
      ).then(() => undefined);
    },
    stop: async () => {
      running = false;
      await Promise.all(loops);
      await pool.close();
    },
  };
  const one = async (kind: Kind, id: string): Promise<void> => {
    const [path, options] = kind.request(id);
    try {
      const reply = await pool.ask(path, options);
      if (reply.status === 200 && kind.check(id, reply)) load.answered++;
      else load.failures.push(`${path} ${id}: ${String(reply.status)} ${reply.text.slice(0, 300)}`);
    } catch (error) {
      load.failures.push(`${path} ${id}: ${String(error)}`);
    }
  };
  const loops = Array.from({ length: connections }, async (_, connection) => {
    for (let i = 0; running; i++) {
      await one(KINDS[kinds[i % kinds.length]!], `${String(connection)}-${String(i)}`);
    }
  });
  return load;
}
