// Random sequences of what may be done to a worker in its first second: start, stop, pause, reload, kill, exit, signals.
//   npm run test:sequences                                     1000 of them, half with each runtime: half an hour
//   npm run test:sequences -- --sequences N --seed N --runtime embedded|process
import { build } from "./build.mjs";
import { inRoot, script } from "./lib/run.mjs";
import { stream } from "./lib/tally.mjs";

await script(async () => {
  await build();
  const command = [process.execPath, "--import", "tsx", inRoot("test/sequences/main.ts")];
  const { code } = await stream([...command, ...process.argv.slice(2)], () => undefined);
  if (code !== 0) process.exitCode = 1;
});
