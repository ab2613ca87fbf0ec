/** The ways in which a request may end while its plugins still use what Node keeps for it. */
import { plainContent } from "../support/nginx-config.js";
import { phase, plugin } from "../support/plugin-phases.js";

export interface Kind {
  readonly name: string;
  /** Between definePlugin's braces, after the name. */
  readonly plugin: string;
  /** nginx's phases in which the plugin runs. */
  readonly phases: readonly string[];
  /**
   * "kept": many requests on one connection; "alone": one, which is closed or cut behind it;
   * "left": one, whose client does not wait for the answer.
   */
  readonly client: "kept" | "alone" | "left";
  readonly method?: "GET" | "HEAD";
  /** Directives in place of a content handler that answers "ok". */
  readonly content?: string;
}

const LATER = `new Promise((resolve) => setTimeout(resolve, 20))`;
const USES = `ctx.local.set("used", (ctx.local.get("used") ?? 0) + 1);`;
const STREAM = `new Response(new ReadableStream({
  async pull(controller) {
    await new Promise(setImmediate);
    ${USES}
    controller.enqueue(new Uint8Array(1000));
  },
}))`;

export const KINDS: readonly Kind[] = [
  {
    name: "a log handler without earlier phases",
    plugin: `log(ctx) { ${USES} },`,
    phases: ["log"],
    client: "kept",
  },
  {
    name: "a log handler that waits",
    plugin: `async log(ctx) { await ${LATER}; ${USES} },`,
    phases: ["log"],
    client: "kept",
  },
  {
    name: "waitUntil after the request's end",
    plugin: `access(ctx) { ${USES} ctx.waitUntil(${LATER}.then(() => { ${USES} })); },`,
    phases: ["access"],
    client: "kept",
  },
  {
    name: "waitUntil that first uses it after the request's end",
    plugin: `access(ctx) { ctx.waitUntil(${LATER}.then(() => { ${USES} })); },`,
    phases: ["access"],
    client: "kept",
  },
  {
    name: "a handler that times out",
    plugin: `phases: { access: { timeoutMs: 5, onTimeout: "open" } },
      async access(ctx) { await ${LATER}; ${USES} },`,
    phases: ["access"],
    client: "kept",
  },
  {
    name: "the last handler of a chain whose call times out",
    plugin: `phases: { access: { timeoutMs: 5, onTimeout: "closed" } },
      async access(ctx) { ${USES} await ${LATER}; ${USES} },`,
    phases: ["access"],
    client: "kept",
  },
  {
    name: "a client that leaves",
    plugin: `async access(ctx) {
        await new Promise((resolve) => { ctx.signal.addEventListener("abort", resolve); });
        ${USES}
      },`,
    phases: ["access"],
    client: "left",
  },
  {
    name: "a client that leaves while nginx is asked",
    plugin: `async access(ctx) {
        ${USES}
        for (let i = 0; i < 3; i++) await ctx.var.get("request_uri");
        await ctx.subrequest("/_ok");
        ${USES}
      },`,
    phases: ["access"],
    client: "left",
  },
  {
    name: "an open handler that throws",
    plugin: `policies: { onError: "open" },
      access(ctx) { ${USES} throw new Error("expected"); },`,
    phases: ["access"],
    client: "kept",
  },
  {
    name: "a closed handler that throws",
    plugin: `async access(ctx) { ${USES} await null; throw new Error("expected"); },`,
    phases: ["access"],
    client: "kept",
  },
  {
    name: "a closed body filter that throws at the first piece",
    plugin: `policies: { onError: "closed" },
      bodyFilter() { throw new Error("expected"); },`,
    phases: ["body_filter"],
    client: "alone",
  },
  {
    name: "a body filter whose body is cut short",
    plugin: `bodyFilter(ctx) { ${USES} },`,
    phases: ["body_filter"],
    client: "left",
    content: plainContent(`for _ = 1, 4 do ngx.print("piece") ngx.flush(true) end`),
  },
  {
    name: "a header filter past sync_timeout_ms",
    plugin: `phases: { headerFilter: { timeoutMs: 1 } },
      headerFilter(ctx) {
        const end = performance.now() + 2;
        while (performance.now() < end);
        ${USES}
      },`,
    phases: ["header_filter"],
    client: "kept",
  },
  {
    name: "a change that Lua refuses",
    plugin: `access(ctx) { ctx.var.set("not_defined", "1"); ${USES} },`,
    phases: ["access"],
    client: "kept",
  },
  {
    name: "a stream that nobody pulls",
    plugin: `content(ctx) { ${USES} return ${STREAM}; },`,
    phases: [],
    client: "kept",
    method: "HEAD",
    content: phase("content", `http.run()`),
  },
  {
    name: "a stream whose client leaves",
    plugin: `content(ctx) { return ${STREAM}; },`,
    phases: [],
    client: "left",
    content: phase("content", `http.run()`),
  },
  {
    name: "an internal redirect",
    plugin: `access(ctx) { ${USES} return ctx.request.path === "/_ok" ? undefined : ctx.exit(404); },`,
    phases: ["access", "log"],
    client: "kept",
    content: `error_page 404 = /_ok; ${plainContent(`ngx.exit(404)`)}`,
  },
];

const fileOf = (i: number): string => `kind-${i}`;
export const pathOf = (kind: Kind): string => `/${fileOf(KINDS.indexOf(kind))}`;

/** Name to source. */
export const PLUGINS: Readonly<Record<string, string>> = Object.fromEntries(
  KINDS.map((kind, i) => [fileOf(i), plugin(`name: "${fileOf(i)}", ${kind.plugin}`)]),
);

export const ROUTES = KINDS.map((_, i) => `http.route("${fileOf(i)}", { "${fileOf(i)}" })`);

export const LOCATIONS: Readonly<Record<string, string>> = {
  "= /_ok": plainContent(`ngx.print("ok")`),
  ...Object.fromEntries(
    KINDS.map((kind, i) => [
      `= /${fileOf(i)}`,
      `set $resty_ts_route ${fileOf(i)};
       ${kind.phases.map((name) => phase(name, `http.run()`)).join("\n")}
       ${kind.content ?? plainContent(`ngx.print("ok")`)}`,
    ]),
  ),
};
