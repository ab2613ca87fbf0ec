/** What plugins write into the error log: a few lines for each call always, a loop's only in part. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

const CALLS = 3000;
const LINES = 20_000;

const modules = {
  "lines.ts": `
    const text = "x".repeat(100);
    export function two(n) { console.log("first", n, text); console.log("second", n, text); }
    export async function fails(n) { console.log("third", n, text); throw new Error("on purpose"); }
    export function many() {
      for (let n = 0; n < ${String(LINES)}; n++) console.log("of many", n, text);
    }`,
};

const calls = (name: string): string =>
  content(`
    local lines = ts.import("lines.ts")
    for n = 1, ${String(CALLS)} do
        lines.${name}(n)
    end
    t.reply(true)`);

async function dropped(nginx: Nginx): Promise<number> {
  return (await nginx.json<{ dropped_log_lines: number }>("/_stats")).dropped_log_lines;
}

const count = (nginx: Nginx, what: string): number => nginx.errorLog().split(what).length - 1;

for (const runtime of ["embedded", "process"]) {
  test(`${runtime}: lines that go with calls are all written, those of a loop are not`, () =>
    withNginx(
      {
        ts: { runtime },
        modules,
        allowLog: [/on purpose/],
        locations: {
          "/two": calls("two"),
          "/fails": calls("fails"),
          "/many": content(`t.reply(ts.import("lines.ts").many())`),
        },
      },
      async (nginx) => {
        await nginx.json("/two");
        await nginx.json("/fails");
        assert.equal(await dropped(nginx), 0);
        for (const what of ["first", "second", "third"]) assert.equal(count(nginx, what), CALLS);
        await nginx.json("/many");
        // Its answer may be read before them.
        const written = await until("each line is written or counted", async () => {
          const lost = await dropped(nginx);
          const here = count(nginx, "of many");
          return here + lost === LINES && here;
        });
        assert.ok(written > 100 && written < LINES / 4, String(written));
        await nginx.waitForLog(/ log lines \(\d+ bytes\) were dropped/);
      },
    ));
}
