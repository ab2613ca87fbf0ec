// Fuzzes what reads the rings, from one corpus: the record reader in C by libFuzzer under ASan and UBSan, then the decoders
// of Lua and of TypeScript, which get the same inputs. Each decoder gets all of the time; the last line has the figures.
//   npm run test:fuzz                        600 seconds each: 20 minutes
//   npm run test:fuzz -- --seconds N         --seed S: of the inputs for Lua and TypeScript, as a run before has printed it
import { parseArgs } from "node:util";
import { build } from "./build.mjs";
import { runFuzzer } from "./lib/native-tests.mjs";
import { Failure, inRoot, script } from "./lib/run.mjs";
import { stream } from "./lib/tally.mjs";

/** Past its time by so much it hangs. libFuzzer has such a limit of its own. */
const HANGS_SECONDS = 120;

await script(async () => {
  const { values } = parseArgs({
    options: { seconds: { type: "string", default: "600" }, seed: { type: "string" } },
  });
  const seconds = Number(values.seconds);
  if (!Number.isInteger(seconds) || seconds < 1) {
    throw new Failure(`--seconds ${values.seconds}: a whole number of seconds, at least 1`);
  }
  await build();

  let executions = "no";
  const wrong = await runFuzzer("record_fuzz", seconds, (line) => {
    executions = /number_of_executed_units: *(\d+)/.exec(line)?.[1] ?? executions;
  });
  const results = [`c: ${executions} executions, ${wrong === undefined ? 0 : 1} findings`];
  if (wrong !== undefined) console.error(`record_fuzz: ${wrong}`);

  const seed = values.seed === undefined ? [] : ["--seed", values.seed];
  const target = inRoot("test/fuzz/decoders.ts");
  const limit = String(seconds + HANGS_SECONDS);
  const command = ["timeout", "--signal=KILL", limit, process.execPath, "--import", "tsx", target];
  let last = "lua and ts: ended without a result; its inputs are in build-test/fuzz/findings";
  const { code } = await stream([...command, "--seconds", String(seconds), ...seed], (line) => {
    if (line.startsWith("lua and ts: ")) last = line;
  });
  results.push(last);
  console.log(`\n${results.join("; ")}`);
  if (wrong !== undefined || code !== 0) process.exitCode = 1;
});
