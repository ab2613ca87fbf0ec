/** A handler that does not come back: its host is ended, and the error log says where it was. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { NODES } from "../../support/nodes.js";

const options = (node: string): NginxOptions => ({
  ts: { runtime: "process", node, stall_ms: 100, timeout_ms: 20_000 },
  locations: {
    "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
    "/loaded": content(`t.reply(ts.import("wait.ts").sleep(0))`),
    "/spin": content(`t.reply(ts.call(ts.import("wait.ts").spinForever, { timeout_ms = 1000 }))`),
    "/late": content(`t.reply(ts.call(ts.import("wait.ts").sleep, { timeout_ms = 100 }, 60000))`),
  },
  allowLog: [/the environment ended/, /the handler that stalled/],
});

async function hasNewLife(nginx: Nginx): Promise<void> {
  // One that is stopped may go on again, for a while.
  await until("there is another life", async () => (await statsOf(nginx)).lives === 2, 20_000);
  await untilState(nginx, "ready");
  assert.deepEqual(await nginx.json("/add"), { value: 3 });
}

describe("the error log has the place, in the source, where a handler stalled, of", () => {
  for (const { major, node, skip } of NODES) {
    test(`Node ${String(major)}`, { skip }, () =>
      withNginx(options(node), async (nginx) => {
        // Not to be cancelled before it has begun.
        assert.deepEqual(await nginx.json("/loaded"), { value: 0 });
        assert.match((await nginx.json<Answer>("/spin")).code ?? "", /^(timeout|stalled)$/);
        await hasNewLife(nginx);
        await nginx.waitForLog(
          /the handler that stalled:\n +at \S*spinForever \(\S*wait\.ts:\d+:\d+\)/,
        );
      }),
    );
  }
});

test("a host that is stopped is ended, too, and its stack is not known", () =>
  withNginx(options("node"), async (nginx) => {
    await untilState(nginx, "ready");
    const worker = nginx.workerPid();
    const { process_id: host } = await statsOf(nginx);
    process.kill(host ?? assert.fail("there is no host"), "SIGSTOP");
    assert.match((await nginx.json<Answer>("/late")).code ?? "", /^(timeout|stalled)$/);
    await hasNewLife(nginx);
    assert.equal(nginx.workerPid(), worker);
    assert.doesNotMatch(nginx.errorLog(), /the handler that stalled/);
    assert.match(nginx.errorLog(), /it did not say where: it is in native code, or stopped/);
  }));
