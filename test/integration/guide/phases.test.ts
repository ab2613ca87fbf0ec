/** docs/phases.md, held against an nginx: each cell of its tables is tried. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Chain } from "../../../src/http/chain.ts";
import { LUA_NAMES, PHASES } from "../../../src/http/phases.ts";
import { definePlugin, type Phase } from "../../../src/sdk/index.ts";
import type { Reply } from "../../support/clients.js";
import { until } from "../../support/deadline.js";
import { Nginx } from "../../support/nginx.js";
import { INSTALLATION } from "../../support/project.js";
import { plainContent } from "../../support/nginx-config.js";
import { readDoc, tableBelow } from "./markdown.js";

const text = readDoc("phases.md");
const plain = (cell = ""): string => cell.replaceAll("`", "");

const [, ...names] = tableBelow(text, "## Names elsewhere");
const phases = names.map(([phase]) => plain(phase));
/** rewrite: "rewrite_by_lua", … */
const directives = new Map(
  names.map(([phase, nginx]) => [plain(phase), plain(nginx).slice(0, -1)]),
);
const luaName = (phase: string): string => LUA_NAMES[phase as Phase];

// What Lua logs of a phase that failed, and the host of what nobody waits for.
const FAILED = /\[error\].*resty\.ts: probe(?:,| \w+ failed:) /g;
const HERE = dirname(fileURLToPath(import.meta.url));

interface Echo {
  method: string;
  url: string;
  body: string;
}

/** The server behind nginx; answers with what it was asked, in several pieces. */
function startUpstream(): Promise<Server> {
  const server = createServer((request, response) => {
    const body: Buffer[] = [];
    request.on("data", (piece: Buffer) => body.push(piece));
    request.on("end", () => {
      const { method, url } = request;
      response.write(JSON.stringify({ method, url, body: Buffer.concat(body).toString() }));
      response.end("\n".repeat(20_000));
    });
  });
  return new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve(server));
  });
}

const callsOf = (phases: readonly string[]): string =>
  phases.map((phase) => `require("resty.ts.http").${luaName(phase)}("probe")`).join("\n");

/** Several phases may be in one of nginx's. */
const inPhase = (list: string | readonly string[], code = ""): string => {
  const together = [list].flat();
  return `${directives.get(together[0]!) ?? ""}_block {
    ngx.ctx.set_by_lua = "lua"
    ${callsOf(together)}
    ${code}
  }`;
};

/** What Lua code that runs after the plugin sees of the request. */
const SEEN_BY_LUA = `
  ngx.header["X-Lua-Request"] = ngx.req.get_method() .. " " .. ngx.var.uri .. " "
      .. tostring(ngx.var.args) .. " " .. tostring(ngx.req.get_headers()["x-field"])
  ngx.header["X-Lua-Var"] = ngx.var.probe_var
  ngx.header["X-Lua-Ctx"] = ngx.ctx.set_by_ts`;

/** Counts what nginx hands to its body filters, where TypeScript gets a call for it. */
const COUNT_PIECES = `
  if ngx.arg[1] ~= "" or ngx.arg[2] then ngx.shared.kept:incr("pieces", 1, 0) end`;

const filters = [
  inPhase("headerFilter", SEEN_BY_LUA),
  inPhase(["bodyFilter", "delayedBodyFilter"]),
  inPhase("log"),
].join("\n");

describe("docs/phases.md", () => {
  let nginx: Nginx;
  let upstream: Server;
  let marks = 0;

  before(async () => {
    upstream = await startUpstream();
    const pass = `proxy_pass http://127.0.0.1:${(upstream.address() as AddressInfo).port};`;
    const only = Object.fromEntries(
      phases.map((phase) => [
        `= /only/${phase}`,
        phase === "content"
          ? inPhase(phase)
          : luaName(phase).endsWith("body_filter")
            ? `body_filter_by_lua_block { ${COUNT_PIECES} ${callsOf([phase])} } ${pass}`
            : `${inPhase(phase)} ${pass}`,
      ]),
    );
    nginx = await Nginx.start({
      files: { "plugins/probe.ts": readFileSync(join(HERE, "plugins/probe.ts"), "utf8") },
      // A busy machine must not make the filters late.
      initWorker: `
        local prefix = ngx.config.prefix()
        assert(require("resty.ts").start {
            plugins = prefix .. "plugins", runtime_dir = prefix .. "tmp", sync_timeout_ms = 10000,
        })
        local http = require "resty.ts.http"
        http.route("closed", { { "probe", on_error = "closed" } })
        http.route("418", { { "probe", on_error = 418 } })
        http.route("open", { { "probe", on_error = "open" } })`,
      server: `set $probe_var ""; set $resty_ts_route ""; location / { ${pass} }`,
      locations: {
        "= /probe": `${inPhase("rewrite")} ${inPhase(["access", "beforeProxy"])} ${filters} ${pass}`,
        "= /probe/content": `rewrite ^ /probe break; ${inPhase("content")} ${filters}`,
        ...only,
        "/policy/": `if ($uri ~ "^/policy/(.+)$") { set $resty_ts_route $1; }
          include ${join(INSTALLATION.root, "conf", "resty_ts.conf")}; ${pass}`,
        "= /sub": "return 200 sub;",
        "= /wrong": plainContent(
          `local results = {}
           for _, name in ipairs { ${phases.map((phase) => `"${luaName(phase)}"`).join(", ")} } do
               if name ~= "content" then
               results[name] = select(2, pcall(require("resty.ts.http")[name], "probe"))
               end
           end
           ngx.print(require("cjson").encode(results))`,
        ),
        "= /_stats": plainContent(
          `local ts = require "resty.ts"
           local stats = ts.stats()
           stats.pieces = ngx.shared.kept:get("pieces") or 0
           stats.background = table.concat(ngx.shared.kept:get_keys(0), ";") .. ";"
           ngx.print(require("cjson").encode(stats))`,
        ),
      },
      allowLog: [new RegExp(FAILED.source), /the connection is cut, see above/],
    });
  });

  after(async () => {
    try {
      await nginx.stop();
    } finally {
      upstream.closeAllConnections();
      upstream.close();
    }
  });

  const ask = (path: string, phase: string, act: string): Promise<Reply> =>
    nginx.ask(path, {
      method: "POST",
      body: "sent",
      headers: { "x-phase": phase, "x-act": act, "x-mark": String(marks), cookie: "c=d%20e" },
    });

  const failures = (): number => nginx.errorLog().match(FAILED)?.length ?? 0;

  /** Log handlers run later: when this has come, those of the requests before have run. */
  async function barrier(): Promise<void> {
    marks++;
    await ask("/probe", "log", "barrier");
    await nginx.waitForLog(new RegExp(`barrier ${marks}\\b`));
  }

  /** One row's thing in one phase: the answer, and whether it was refused. */
  async function attempt(phase: string, row: string): Promise<{ reply: Reply; refused: boolean }> {
    const earlier = failures();
    const path = phase === "content" ? "/probe/content?a=1" : "/probe?a=1";
    const reply = await ask(path, phase, row);
    if (phase === "log") await barrier();
    return { reply, refused: failures() > earlier };
  }

  /** What must be seen of a thing that was done, where it can be seen. */
  const effects: Record<string, (reply: Reply, phase: string) => void> = {
    "change the request: method, URI, fields"({ headers, text }, phase) {
      assert.equal(headers["x-lua-request"], "PUT /changed/a b=2 set");
      if (phase === "content") return;
      const { method, url } = JSON.parse(text) as Echo;
      assert.deepEqual([method, url], ["PUT", "/changed%2Fa?b=2"]);
    },
    "replace the request's body"({ text }, phase) {
      if (phase !== "content") assert.equal((JSON.parse(text) as Echo).body, "changed");
    },
    "answer with `ctx.exit`": ({ status, text }) => assert.deepEqual([status, text], [418, "exit"]),
    "answer with a `Response`": ({ status, text }) =>
      assert.deepEqual([status, text], [418, "response"]),
    "set the response's status"({ status }, phase) {
      assert.equal(status, phase === "headerFilter" ? 299 : 200);
    },
    "set the response's fields": ({ headers }) => assert.equal(headers["x-set"], "yes"),
    "replace pieces of the response's body": ({ text }) => assert.match(text, /^(replaced)+$/),
    "set variables, `ctx.var.set`": ({ headers }) => assert.equal(headers["x-lua-var"], "set"),
    "read and set `ctx.ctx`"({ headers }, phase) {
      const later = ["bodyFilter", "delayedBodyFilter", "log"];
      if (!later.includes(phase)) assert.equal(headers["x-lua-ctx"], "ts");
    },
  };

  const [columns = [], ...rows] = tableBelow(text, "## What is legal");

  test("the table of what is legal has all phases", () => {
    assert.deepEqual(columns.slice(1).map(plain), phases);
    assert.deepEqual(phases, PHASES);
  });

  for (const [row = "", ...cells] of rows) {
    test(`${row}: ${cells.join(", ")}`, async () => {
      const found: string[] = [];
      for (const phase of phases) {
        const { reply, refused } = await attempt(phase, row);
        found.push(refused ? "no" : "yes");
        if (!refused) effects[row]?.(reply, phase);
      }
      assert.deepEqual(found, cells);
    });
  }

  test("a phase of plugins is refused in a phase of nginx's that is not its own", async () => {
    const results = await nginx.json<Record<string, string>>("/wrong");
    for (const phase of phases) {
      const name = luaName(phase);
      if (phase !== "content")
        assert.match(results[name] ?? "", /cannot be run in content_by_lua/, phase);
    }
  });

  test("shared dictionaries are asked in the background, whatever the phase", async () => {
    await until("each phase has left its mark", async () => {
      const { background } = await nginx.json<{ background: string }>("/_stats");
      return phases.every((phase) => background.includes(`background ${phase};`));
    });
  });

  interface Counts {
    calls: number;
    notifications: number;
    pieces: number;
  }

  /** What one request adds to the counters. */
  async function costOf(path: string, phase: string, act: string): Promise<Counts> {
    await ask(path, phase, act); // the first also configures
    const earlier = await nginx.json<Counts>("/_stats");
    await ask(path, phase, act);
    const now = await nginx.json<Counts>("/_stats");
    return {
      calls: now.calls - earlier.calls,
      notifications: now.notifications - earlier.notifications,
      pieces: now.pieces - earlier.pieces,
    };
  }

  const [, ...costs] = tableBelow(text, "## What it costs, and which way it waits");
  for (const [name, calls = ""] of costs) {
    const phase = plain(name);
    test(`${phase} costs ${calls === "1" ? "one call" : `${calls} calls`}`, async () => {
      const cost = await costOf(`/only/${phase}`, phase, "nothing");
      if (calls === "1 a piece") assert.ok(cost.pieces > 1, "the answer came in one piece");
      assert.equal(cost.calls, calls === "1 a piece" ? cost.pieces : Number(calls));
    });
  }

  test("questions that are asked together are one more call, one by one they are one each", async () => {
    assert.equal((await costOf("/only/access", "access", "questions together")).calls, 2);
    assert.equal((await costOf("/only/access", "access", "questions one by one")).calls, 3);
  });

  test("log entries travel in batches of 64", async () => {
    const earlier = await nginx.json<Counts>("/_stats");
    await Promise.all(Array.from({ length: 128 }, () => ask("/only/log", "log", "nothing")));
    const sent = await until("the entries are sent", async () => {
      const { notifications } = await nginx.json<Counts>("/_stats");
      return notifications - earlier.notifications || false;
    });
    assert.ok(sent < 64, `${sent} messages for 128 entries`);
  });

  describe("defaults of the policies", () => {
    const [, ...defaults] = tableBelow(text, "## What happens when a handler fails");
    const all = definePlugin({
      name: "all",
      rewrite() {},
      access() {},
      beforeProxy() {},
      content: () => new Response(),
      headerFilter() {},
      bodyFilter() {},
      delayedBodyFilter() {},
      log() {},
    });
    const { phases } = new Chain([
      {
        instance: {
          loaded: all,
          plugin: all,
          name: "all",
          conf: {},
          metadata: undefined,
          log: { error() {}, warn() {}, notice() {}, info() {}, debug() {} },
          declared: [],
          state: undefined,
        },
        options: {},
        given: {},
      },
    ]).describe();

    const shown = (status: number | undefined): string =>
      status === 0 ? "open" : `closed: ${String(status)}`;

    for (const [name, ...cells] of defaults) {
      const phase = plain(name);
      test(`${phase}: ${cells.join(", ")}`, async () => {
        const { on_error, on_timeout, on_overload } = phases[luaName(phase)] ?? {};
        assert.deepEqual([on_error, on_timeout, on_overload].map(shown), cells);
        const { reply, refused } = await attempt(phase, "throw");
        assert.ok(refused, "nothing is in the error log");
        assert.equal(cells[0], reply.status === 200 ? "open" : `closed: ${reply.status}`);
      });
    }

    test("in the filters anything but open cuts the connection", async () => {
      for (const policy of ["closed", "418"]) {
        for (const phase of ["headerFilter", "bodyFilter", "delayedBodyFilter"]) {
          await assert.rejects(ask(`/policy/${policy}`, phase, "throw"), `${policy}, ${phase}`);
        }
      }
    });

    test("before the upstream a status is answered, with the response fields that were set", async () => {
      const reply = await ask("/policy/418", "access", "set and throw");
      assert.equal(reply.status, 418);
      assert.equal(reply.headers["content-type"], "application/problem+json");
      assert.equal(reply.headers["x-set"], "before it failed");
    });

    test("open goes on without what the handler had changed", async () => {
      const reply = await ask("/policy/open", "access", "set and throw");
      assert.equal(reply.status, 200);
      assert.equal(reply.headers["x-set"], undefined);
    });
  });
});
