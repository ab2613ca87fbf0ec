// The bundle on the Debians that are supported: built once, in a root file system of the oldest, then unpacked in one of each,
// where nginx and libnode are the distribution's, and the integration suite run there against it. The last line counts.
//   npm run test:matrix [-- --only bookworm,trixie,forky] [--out DIR | --bundle FILE.tar.gz] [PATTERN]
// PATTERN is part of a test file's path; --out keeps the bundle and prebuilds/PLATFORM there; --bundle takes one that is made.
// Needs root, network for apt, and disk: root file systems are kept below RTS_ROOTS (resty-ts-roots in the folder for
// temporary files, unless told), which may be removed at any time. Everything else is gone with the run, however it ends.
import { parseArgs } from "node:util";
import { SUITES, runMatrix } from "./lib/matrix.mjs";
import { mustBeRoot } from "./lib/root.mjs";
import { Failure, script } from "./lib/run.mjs";

await script(async () => {
  const { values, positionals } = parseArgs({
    options: { only: { type: "string" }, out: { type: "string" }, bundle: { type: "string" } },
    allowPositionals: true,
  });
  const only = values.only?.split(",") ?? SUITES;
  const unknown = only.find((suite) => !SUITES.includes(suite));
  if (unknown !== undefined) throw new Failure(`--only ${unknown}: ${SUITES.join(", ")}`);
  mustBeRoot();
  const { out, bundle } = values;
  await runMatrix({ suites: only, pattern: positionals[0] ?? "", out, bundle });
});
