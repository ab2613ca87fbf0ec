/** The nginx that is reloaded: a module and a plugin in many versions, asked in each way there is. */
import { join } from "node:path";
import type { NginxOptions } from "../support/nginx.js";
import { plainContent } from "../support/nginx-config.js";
import { phase } from "../support/plugin-phases.js";
import { PROJECT_ROOT } from "../support/project.js";
import { FIGURES_LOCATION, FIGURES_MODULE } from "./figures.js";
import { Sources, type Subject } from "./sources.js";
import type { Kind } from "./traffic.js";

export type Runtime = "embedded" | "process";

const route = `set $resty_ts_route soak; include ${join(PROJECT_ROOT, "conf", "resty_ts.conf")};`;

const call = plainContent(`
  local x = tonumber(ngx.var.arg_x)
  local answer, err = require("resty.ts").import("soak.ts").f(x)
  if not answer then ngx.status = 500 return ngx.print(err) end
  ngx.print(answer)`);

const inline = ["access", "header_filter", "body_filter", "log"]
  .map((name) => phase(name, `http.${name}("soak", { where = "inline" })`))
  .join("\n");

const reload = plainContent(`
  local report, err = require("resty.ts").reload()
  if not report then ngx.status = 500 return ngx.print(err) end
  ngx.print(require("cjson").encode(report))`);

export function gatewayOptions(runtime: Runtime, workers: number): NginxOptions {
  return {
    workers,
    files: {
      ...Sources.first(),
      "modules/figures.ts": FIGURES_MODULE,
      "plugins/still.ts": `import { definePlugin } from "resty-ts";
        export default definePlugin({ name: "still",
          access(ctx) { ctx.response.headers.set("x-still", "yes"); } });`,
    },
    // What is broken is in the log, with each refusal.
    allowLog: [
      /was not reloaded, the version before it goes on/,
      /soak setup failed: .*another version/,
    ],
    initWorker: `
      local prefix = ngx.config.prefix()
      assert(require("resty.ts").start {
          plugins = prefix .. "plugins", modules = prefix .. "modules",
          runtime_dir = prefix .. "tmp", runtime = "${runtime}", timeout_ms = 20000,
          sync_timeout_ms = 10000,
      })
      require("resty.ts.http").route("soak", { { "soak", { where = "chain" } }, "still" })`,
    locations: {
      "= /call": call,
      "= /chain": `${route} ${plainContent(`ngx.print("chain")`)}`,
      "= /inline": `${inline} ${plainContent(`ngx.print("inline")`)}`,
      "= /stream": `${route} content_by_lua_block { require("resty.ts.http").run() }`,
      "= /_reload": reload,
      "= /_figures": FIGURES_LOCATION,
    },
  };
}

/** Each way to reach what is reloaded, and what its answer must be. */
export function kindsOf(
  sources: Sources,
  committed: Readonly<Record<Subject, number>>,
  isNew: boolean,
): Kind[] {
  const ofPlugin = (name: string, path: string, body: (version: string) => string): Kind => ({
    name,
    path: (n) => `${path}?n=${String(n)}${n % 3 === 0 ? "&wait" : ""}`,
    before: () => committed.plugin,
    check({ status, headers, text }, _n, before) {
      if (status !== 200) return `status ${String(status)}: ${text}`;
      const [begun, version, handed] = String(headers["x-soak"]).split(" ");
      if (version === undefined || begun !== version) {
        return `it began with ${String(begun)} and went on with ${String(version)}`;
      }
      const expected = body(version) + (headers["x-filtered"] === "yes" ? "!" : "");
      if (text.replaceAll(/!+/g, "!") !== expected) return `the body is ${text}, not ${expected}`;
      if (name !== "inline" && headers["x-still"] !== "yes") return "the other plugin did not run";
      return sources.judge("plugin", `${version} ${String(handed)}`, before, isNew);
    },
  });
  return [
    {
      name: "call",
      path: (n) => `/call?x=${String(n)}`,
      before: () => committed.module,
      check({ status, text }, n, before) {
        const said = new RegExp(`^${String(n)} (.*)$`).exec(text)?.[1];
        if (status !== 200 || said === undefined) return `status ${String(status)}: ${text}`;
        return sources.judge("module", said, before, isNew);
      },
    },
    ofPlugin("chain", "/chain", () => "chain"),
    ofPlugin("inline", "/inline", () => "inline"),
    ofPlugin("stream", "/stream", (version) => `${version} `.repeat(3)),
  ];
}
