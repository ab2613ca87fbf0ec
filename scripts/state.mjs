// Sends requests that end in each way that might leave something of them in Node, and looks at what the engine keeps of them, which
// must be nothing, and at the memory. The last line has the counts.
//   npm run test:state                                   a million requests of each kind with Node embedded
//   npm run test:state -- --requests N --runtime embedded|process|both --kinds "part of a name"
import { build } from "./build.mjs";
import { inRoot, script } from "./lib/run.mjs";
import { stream } from "./lib/tally.mjs";

await script(async () => {
  await build();
  const command = [process.execPath, "--import", "tsx", inRoot("test/state/main.ts")];
  const { code } = await stream([...command, ...process.argv.slice(2)], () => undefined);
  if (code !== 0) process.exitCode = 1;
});
