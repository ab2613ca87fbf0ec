// Builds, and runs the chaos suite with the options given: see test/chaos/main.ts.
//   npm run test:chaos                           600 seconds
//   npm run test:chaos -- --seconds N --seed S
import { spawnSync } from "node:child_process";
import { build } from "./build.mjs";
import { inRoot, script } from "./lib/run.mjs";

await script(async () => {
  await build();
  const args = ["--import", "tsx", inRoot("test/chaos/main.ts"), ...process.argv.slice(2)];
  process.exitCode = spawnSync(process.execPath, args, { stdio: "inherit" }).status ?? 1;
});
