// Sets up, builds, and runs the benchmark with the options given: see test/bench/options.ts, or --help.
//   npm run bench:recovery   the time from an environment's end to the next answer: test/bench/recovery.ts
import { spawnSync } from "node:child_process";
import { build } from "./build.mjs";
import { inRoot, script } from "./lib/run.mjs";
import { setup } from "./setup.mjs";

await script(async () => {
  await setup({ group: "bench", npm: true });
  await build(["native", "host"]);
  const given = process.argv.slice(2);
  const name = given[0] === "recovery" ? given.shift() : "main";
  const args = ["--import", "tsx", inRoot(`test/bench/${name}.ts`), ...given];
  process.exitCode = spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1;
});
