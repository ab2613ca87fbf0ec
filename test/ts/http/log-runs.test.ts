/** Batches of log entries, without nginx. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { definePlugin } from "../../../src/sdk/index.ts";
import { PhaseNumber } from "../../../src/http/phases.ts";
import { head, openWith } from "./support.ts";

const entry = (requestId: number, token = 1) =>
  [
    head({ phase: PhaseNumber.log, requestId, token, uri: `/${requestId}` }),
    null,
    null,
    0,
  ] as const;

test("a batch's entries begin when all of the one before have", async () => {
  const begun: string[] = [];
  const logs = definePlugin({
    name: "logs",
    log(ctx) {
      begun.push(ctx.request.uri);
    },
  });
  const resume: (() => void)[] = [];
  const pause = () => new Promise<void>((resolve) => void resume.push(resolve));
  const { engine } = openWith({ pause }, logs);
  await engine.configure(1, [["logs", null]]);
  const done = Promise.all([engine.log([entry(1), entry(2)]), engine.log([entry(3)])]);
  let ended = false;
  void done.then(() => (ended = true));
  while (!ended) {
    resume.shift()?.();
    await new Promise(setImmediate);
  }
  assert.deepEqual(begun, ["/1?x=1", "/2?x=1", "/3?x=1"]);
});
