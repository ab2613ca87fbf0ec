// Sets up, builds, and runs the benchmark with the options given: see test/bench/options.ts, or --help.
import { spawnSync } from "node:child_process";
import { build } from "./build.mjs";
import { inRoot, script } from "./lib/run.mjs";
import { setup } from "./setup.mjs";

await script(async () => {
  await setup({ group: "bench", npm: true });
  await build(["native", "host"]);
  const args = ["--import", "tsx", inRoot("test/bench/main.ts"), ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1;
});
