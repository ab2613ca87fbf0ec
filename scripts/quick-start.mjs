// Does what docs/quick-start.md says in a fresh Debian, of which nothing is known but the packages that the page names; the npm
// package is packed from this project, with prebuilt libraries, and comes from a registry on loopback. As root.
//   npm run test:quick-start [-- SUITE]        trixie unless told
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { build } from "./build.mjs";
import { ensureRoot } from "./lib/root-make.mjs";
import { mustBeRoot } from "./lib/root.mjs";
import { Failure, inRoot, run, script } from "./lib/run.mjs";

/** What the page has its readers install. */
function packages() {
  const page = readFileSync(inRoot("docs/quick-start.md"), "utf8");
  const [, line] = /^apt-get install (.*)$/m.exec(page) ?? [];
  if (line === undefined) throw new Failure("docs/quick-start.md has no line with apt-get install");
  return line.split(" ").filter((word) => !word.startsWith("-"));
}

await script(async () => {
  mustBeRoot();
  const [suite = "trixie"] = process.argv.slice(2);
  await build();
  const root = await ensureRoot(suite, packages());
  const prebuilds = mkdtempSync(path.join(os.tmpdir(), "resty-ts-quick-"));
  try {
    await run(process.execPath, [inRoot("scripts/prebuild.mjs"), "--out", prebuilds]);
    const env = { ...process.env, RTS_QUICK_ROOT: root, RTS_QUICK_PREBUILDS: prebuilds };
    const test = ["--import", "tsx", "--test-reporter=spec", "--test"];
    await run(process.execPath, [...test, inRoot("test/distributions/quick-start.ts")], { env });
  } finally {
    rmSync(prebuilds, { recursive: true });
  }
});
