/** HTTP plugins where there are several environments, and where one ends while they wait. */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf } from "../../support/bridge.js";
import { withNginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { ok, phase, plugin } from "../../support/plugin-phases.js";

/** Tells which environment it is in, and how often it has run there. */
const counting = (name: string): string => `
  import { randomUUID } from "node:crypto";
  const own = (globalThis as { own?: string }).own ??= randomUUID();
  let count = 0;
  ${plugin(`name: "${name}", schema: { type: "object" },
    access(ctx) { ctx.response.headers.set("x-${name}", own + " " + ++count); },
    headerFilter(ctx) { ctx.response.headers.append("x-filters", own); },
    log(ctx) { ctx.log.notice("${name} logged " + own); },`)}`;

const NAMES = ["one", "two", "three", "four", "five", "six"];

const gated = (name: string, more: string): string => `
  import { existsSync } from "node:fs";
  import { setTimeout as delay } from "node:timers/promises";
  ${plugin(`name: "${name}", ${more}
    async access(ctx) {
      const gate = ctx.request.query.get("gate")!;
      ctx.log.notice("waits at the gate");
      while (!existsSync(gate)) await delay(2);
      ctx.response.headers.append("x-gated", "yes");
    },`)}`;

const run = (name: string, plugin: string): string =>
  phase(name, `require("resty.ts.http").${name}("${plugin}")`);

const all = (name: string): string =>
  `${run("access", name)} ${run("header_filter", name)} ${run("log", name)} ${ok}`;

function options(runtime: string, instances: number): NginxOptions {
  return {
    ts: { runtime, instances, plugins: "plugins", timeout_ms: 20_000 },
    modules: { "exit.ts": "export const exit = () => process.exit(3);" },
    files: {
      ...Object.fromEntries(NAMES.map((name) => [`plugins/${name}.ts`, counting(name)])),
      "plugins/again.ts": gated("again", "idempotent: true,"),
      "plugins/once.ts": gated("once", ""),
    },
    locations: {
      ...Object.fromEntries(NAMES.map((name) => [`/${name}`, all(name)])),
      "/together": `access_by_lua_block {
          local http = require("resty.ts.http")
          ${NAMES.map((name) => `http.access("${name}")`).join(" ")}
        } ${ok}`,
      "/again": `${run("access", "again")} ${ok}`,
      "/once": `${run("access", "once")} ${ok}`,
      "/exit": content(`t.reply(ts.import("exit.ts").exit())`),
    },
    allowLog: [/exit code 3/, /runtime exited/],
  };
}

for (const runtime of ["embedded", "process"]) {
  describe(`plugins in instances, ${runtime}`, () => {
    test("each is in one of them, with its state, in all phases", () =>
      withNginx(options(runtime, 3), async (nginx) => {
        const homes = new Map<string, string>();
        for (let round = 1; round <= 5; round++) {
          for (const name of NAMES) {
            const answer = await nginx.ask(`/${name}`);
            const [home = "", count] = String(answer.headers[`x-${name}`]).split(" ");
            assert.equal(count, String(round), name);
            assert.equal(homes.get(name) ?? home, home, name);
            assert.equal(answer.headers["x-filters"], home);
            homes.set(name, home);
          }
        }
        assert.ok(new Set(homes.values()).size > 1, "all are in one instance");
        for (const [name, home] of homes) {
          await nginx.waitForLog(new RegExp(`(?:${name} logged ${home}[^]*){5}`));
        }
        const { headers } = await nginx.ask("/together");
        for (const [name, home] of homes) assert.equal(headers[`x-${name}`], `${home} 6`);
      }));
  });

  describe(`plugins that may run twice, ${runtime}`, () => {
    test("go on in the next environment, and others are answered by their policy", () =>
      withNginx(options(runtime, 1), async (nginx) => {
        const gate = join(nginx.prefix, "open");
        const ask = (path: string): Promise<[number, unknown]> =>
          nginx
            .ask(`${path}?gate=${gate}`)
            .then(({ status, headers }) => [status, headers["x-gated"]]);
        const again = Array.from({ length: 8 }, () => ask("/again"));
        const once = Array.from({ length: 8 }, () => ask("/once"));
        await nginx.waitForLog(/(?:waits at the gate[^]*){16}/);
        await nginx.ask("/exit");
        for (const answer of await Promise.all(once)) assert.deepEqual(answer, [503, undefined]);
        writeFileSync(gate, "");
        for (const answer of await Promise.all(again)) assert.deepEqual(answer, [200, "yes"]);
        assert.equal((await statsOf(nginx)).repeated, 8);
      }));
  });
}
