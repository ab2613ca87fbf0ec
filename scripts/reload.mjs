// Reloads again and again under constant load, in which each answer is checked: hot reloads of modules and plugins, and nginx's
// own, HUP. What it finds: failed calls, memory, descriptors and threads that grow. The last line has the counts.
//   npm run test:reload                                        1000 reloads and 200 HUPs with each runtime: 20 minutes
//   npm run test:reload -- --reloads N --hups N --runtime embedded|process|both --connections N
import { build } from "./build.mjs";
import { inRoot, script } from "./lib/run.mjs";
import { stream } from "./lib/tally.mjs";

await script(async () => {
  await build();
  const command = [process.execPath, "--import", "tsx", inRoot("test/reload/main.ts")];
  const { code } = await stream([...command, ...process.argv.slice(2)], () => undefined);
  if (code !== 0) process.exitCode = 1;
});
