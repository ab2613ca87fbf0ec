/** What JavaScript in a worker cannot get hold of. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Answer } from "../../support/bridge.js";
import { withNginx } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";

const SEEKER = `
import { createRequire } from "node:module";
import { Worker } from "node:worker_threads";

const look = "Object.keys(process._linkedBinding('resty_ts'))";
const ask = (): string[] => new Function("return " + look)();

export const binding = ask;

export function bindingInThread(): Promise<string[]> {
  const worker = new Worker("require('node:worker_threads').parentPort.postMessage(" + look + ")", { eval: true });
  return new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
}

/** Classes of the addon's among what the host's modules export. */
export function modules(): string[] {
  const { cache } = createRequire("/");
  return Object.values(cache).flatMap((module) =>
    Object.keys((module?.exports as object | undefined) ?? {}).filter((name) =>
      /^(Channel|Link|Door)$/.test(name),
    ),
  );
}
`;

const seek = (call: string): string => content(`t.reply(ts.import("seeker.ts").${call}())`);

describe("JavaScript in a worker", () => {
  test("has no way to the classes of the native addon, which take any descriptor", () =>
    withNginx(
      {
        ts: { runtime: "embedded" },
        modules: { "seeker.ts": SEEKER },
        locations: {
          "/binding": seek("binding"),
          "/thread": seek("bindingInThread"),
          "/modules": seek("modules"),
        },
      },
      async (nginx) => {
        for (const way of ["/binding", "/thread", "/modules", "/binding"]) {
          const { value, err } = await nginx.json<Answer<string[]>>(way);
          assert.deepEqual(Object.keys(value ?? [err]), [], `${way}: ${String(value ?? err)}`);
        }
      },
    ));
});
