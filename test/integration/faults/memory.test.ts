/** What a handler keeps outside of JavaScript's heap has a bound of its own, in each runtime. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { withNginx, type NginxOptions } from "../../support/nginx.js";
import { content, type StartOptions } from "../../support/nginx-config.js";
import { rssOf } from "../../support/proc.js";

const LIMIT_MB = 100;

const HOARDER = `
const kept: Uint8Array[] = [];
const MB = 2 ** 20;

/** Keeps so much more, and gives way. */
export async function keep(mb: number): Promise<number> {
  for (let i = 0; i < mb; i++) {
    kept.push(Buffer.alloc(MB, 1));
    if (i % 10 === 9) await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return kept.length;
}

/** Makes and drops so much. */
export async function churn(mb: number): Promise<number> {
  let sum = 0;
  for (let i = 0; i < mb; i += 5) {
    sum += Buffer.alloc(5 * MB, 1).length;
    if (i % 100 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  return sum / MB;
}

/** Never comes back, and would have the machine's memory. */
export function devour(mb: number): number {
  for (let i = 0; i < mb; i++) kept.push(Buffer.alloc(MB, 1));
  return kept.length;
}
`;

const hoard = (call: string): string =>
  content(`
    local hoarder = ts.import("hoarder.ts")
    t.reply(ts.call(hoarder.${call}, { timeout_ms = 60000 }, tonumber(ngx.var.arg_mb)))`);

const options = (start: StartOptions): NginxOptions => ({
  ts: { max_external_mb: LIMIT_MB, stall_ms: 60_000, ...start },
  modules: { "hoarder.ts": HOARDER },
  allowLog: [/resty\.ts: /],
  locations: {
    "/keep": hoard("keep"),
    "/churn": hoard("churn"),
    "/devour": hoard("devour"),
    "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
  },
});

const RUNTIMES: Record<string, StartOptions> = {
  embedded: { runtime: "embedded" },
  process: { runtime: "process" },
  shared: { shared: true },
};

describe("max_external_mb", () => {
  for (const [name, start] of Object.entries(RUNTIMES)) {
    test(`${name}: ends an environment whose Buffers have reached it, and no other`, () =>
      withNginx(options(start), async (nginx) => {
        await untilState(nginx, "ready");
        const worker = nginx.workerPid();
        assert.deepEqual(await nginx.json("/keep?mb=60"), { value: 60 });
        const { code, err } = await nginx.json<Answer>("/keep?mb=2000", { timeoutMs: 60_000 });
        assert.equal(code, "out_of_memory", err);
        assert.match(err ?? "", /max_external_mb, 100/);
        await until("another environment", async () => (await statsOf(nginx)).out_of_memory === 1);
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal(nginx.workerPid(), worker);
      }));

    test(`${name}: Buffers that nobody keeps do not count`, () =>
      withNginx(options(start), async (nginx) => {
        await untilState(nginx, "ready");
        assert.deepEqual(await nginx.json("/keep?mb=60"), { value: 60 });
        const reply = await nginx.json("/churn?mb=3000", { timeoutMs: 60_000 });
        assert.deepEqual(reply, { value: 3000 });
        assert.equal((await statsOf(nginx)).lives, 1);
      }));
  }

  test("embedded: ends a handler that does not come back to its loop", () =>
    withNginx(options({ runtime: "embedded" }), async (nginx) => {
      await untilState(nginx, "ready");
      const before = rssOf(nginx.workerPid());
      const { code, err } = await nginx.json<Answer>("/devour?mb=3000", { timeoutMs: 60_000 });
      assert.equal(code, "out_of_memory", err);
      const grown = (rssOf(nginx.workerPid()) - before) / 2 ** 20;
      assert.ok(grown < 1000, `${grown.toFixed()} MB more`);
      assert.deepEqual(await nginx.json("/add"), { value: 3 });
    }));
});
