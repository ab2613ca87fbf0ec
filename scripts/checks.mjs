// Looks at the sources without running them.
//   npm run lint                  ESLint, luacheck, clang-tidy, tsc, and that generated files are fresh
//   npm run format [-- --check]   Prettier and clang-format
import { formatters, linters, runChecks } from "./lib/checks.mjs";
import { Failure, script } from "./lib/run.mjs";

await script(async () => {
  const [what, ...flags] = process.argv.slice(2);
  if (what !== "lint" && what !== "format") throw new Failure("lint or format?");
  const checks = what === "lint" ? linters() : formatters({ check: flags.includes("--check") });
  await runChecks(checks, (_, ok) => {
    if (!ok) process.exitCode = 1;
  });
});
