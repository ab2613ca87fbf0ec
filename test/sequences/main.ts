/**
 * `npm run test:sequences`: scripts/sequences.mjs runs it. Exit status 1 when anything failed; the
 * last line has the counts.
 */
import { parseArgs } from "node:util";
import { type Runtime, runSequences } from "./sequences.js";

const { values } = parseArgs({
  options: {
    sequences: { type: "string", default: "1000" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    runtime: { type: "string", default: "embedded,process" },
  },
});
const runtimes = values.runtime.split(",") as Runtime[];
const seed = Number(values.seed);
const total = Number(values.sequences);
if (!Number.isInteger(total) || total < runtimes.length || !Number.isInteger(seed)) {
  throw new Error("--sequences and --seed are whole numbers, and each runtime has a sequence");
}
const say = (text: string): void => {
  console.log(text);
};
say(`seed ${seed}`);
const parts: string[] = [];
let failures = 0;
for (const [i, runtime] of runtimes.entries()) {
  const sequences = Math.floor((total + i) / runtimes.length);
  const report = await runSequences({ runtime, sequences, seed: seed + i, say });
  failures += report.failures.length;
  parts.push(
    `${runtime}: ${sequences} sequences, ${report.actions} actions, longest wait of a plain location ` +
      `${report.longestWaitMs.toFixed(0)} ms, longest recovery ${report.longestRecoveryMs.toFixed(0)} ms`,
  );
}
say(`${parts.join("; ")}; ${failures} failures`);
if (failures > 0) process.exitCode = 1;
