/** `npm run test:state`: scripts/state.mjs runs it. The last line has the counts. */
import { parseArgs } from "node:util";
import { withNginx } from "../support/nginx.js";
import { KINDS } from "./kinds.ts";
import { type Runtime, siteOptions, tryKind } from "./site.ts";

const MiB = 1048576;
/** What memory that is level may still gain, of its size and beside that. */
const MOST_GROWTH = 0.1;
const MOST_GROWTH_BYTES = 8 * MiB;
/** Before that, Node takes what it likes. */
const LEVEL_AFTER = 100_000;
const DEADLINE_MS = 30_000;

const { values } = parseArgs({
  options: {
    requests: { type: "string", default: "1000000" },
    runtime: { type: "string", default: "embedded" },
    kinds: { type: "string", default: "" },
  },
});

const requests = Number(values.requests);
if (!Number.isInteger(requests) || requests < 1) {
  throw new Error(`invalid --requests ${values.requests}: expected a whole number`);
}
const runtimes: Runtime[] =
  values.runtime === "both" ? ["embedded", "process"] : [values.runtime as Runtime];
const kinds = KINDS.filter(({ name }) => name.includes(values.kinds));

let wrong = 0;
for (const runtime of runtimes) {
  for (const kind of kinds) {
    const began = Date.now();
    const outcome = await withNginx(siteOptions(runtime), (nginx) =>
      tryKind(nginx, kind, requests, DEADLINE_MS),
    );
    const { left, firstRss, lastRss } = outcome;
    const isLevel =
      requests < LEVEL_AFTER || lastRss <= firstRss * (1 + MOST_GROWTH) + MOST_GROWTH_BYTES;
    const isRight = isLevel && Object.values(left).every((count) => count === 0);
    if (!isRight) wrong++;
    const kept = Object.entries(left).map(([what, count]) => `${count} ${what}`);
    console.log(
      `${isRight ? "ok" : "WRONG"}: ${runtime}, ${kind.name}: ${requests} requests in ` +
        `${((Date.now() - began) / 1000).toFixed(0)} s, kept ${kept.join(", ")}; RSS ` +
        `${(firstRss / MiB).toFixed(1)} -> ${(lastRss / MiB).toFixed(1)} MiB` +
        `${isLevel ? "" : ", which is not level"}`,
    );
  }
}
console.log(`\n${kinds.length * runtimes.length - wrong} kinds right, ${wrong} wrong`);
if (wrong > 0) process.exitCode = 1;
