// Runs everything that proves the project right, and adds it up: the last line is `N passed, N failed`.
//   npm test                      sets up, builds, checks the sources, runs all suites
//   npm test -- SUITE [PATTERN]   one suite; PATTERN is part of a file's path, or of a test's name
import { build } from "./build.mjs";
import { filesBelow } from "./lib/files.mjs";
import { exists, Failure, inRoot, script } from "./lib/run.mjs";
import { setup } from "./setup.mjs";

/** @typedef {import("./lib/tally.mjs").Tally} Tally */

/** Files of a folder that the pattern picks; where it picks none it is the name of a test in any of them.
 * @param {string[]} files @param {string} [pattern] */
function choose(files, pattern) {
  const picked = pattern === undefined ? files : files.filter((name) => name.includes(pattern));
  return picked.length > 0 ? { files: picked } : { files, name: pattern };
}

/** @param {string} folder */
const nodeTests = (folder) => filesBelow(folder, (name) => /\.test\.m?ts$/.test(name));

/** @param {Tally} tally @param {string} folder @param {string} [pattern] @param {number} [concurrency] */
async function runNode(tally, folder, pattern, concurrency) {
  const { runNodeTests } = await import("./lib/tally.mjs");
  const { files, name } = choose(nodeTests(folder), pattern);
  if (files.length === 0) throw new Failure(`no *.test.ts below ${folder}`);
  await runNodeTests(tally, folder, files, {
    ...(concurrency === undefined ? {} : { concurrency }),
    ...(name === undefined ? {} : { name }),
  });
}

/** @param {Tally} tally @param {string} folder @param {string} [pattern] */
async function runLua(tally, folder, pattern) {
  const { runTap } = await import("./lib/tally.mjs");
  const all = filesBelow(folder, (name) => name.endsWith("_test.lua"));
  const files = all.filter((name) => name.includes(pattern ?? ""));
  const lua = ["lua", "test/support", folder].map((name) => inRoot(name, "?.lua")).join(";");
  const env = { ...process.env, LUA_PATH: `${lua};;` };
  for (const file of files) {
    console.log(`# lua: ${file}`);
    await runTap(tally, file, ["luajit", file], { env, plan: true });
  }
  return files.length;
}

/** @type {Record<string, (tally: Tally, pattern?: string) => Promise<void>>} */
const suites = {
  async static(tally) {
    const { formatters, linters, runChecks } = await import("./lib/checks.mjs");
    await runChecks([...linters(), ...formatters()], ({ title }, ok) => {
      if (ok) tally.pass();
      else tally.fail(`static: ${title}`);
    });
  },
  async native(tally, pattern) {
    const { runNative } = await import("./lib/native-tests.mjs");
    await runNative(tally, pattern);
  },
  async conformance(tally, pattern) {
    const ran = await runLua(tally, "test/conformance", pattern);
    if (nodeTests("test/conformance").length > 0) await runNode(tally, "test/conformance", pattern);
    else if (ran === 0) throw new Failure("no tests below test/conformance");
  },
  async lua(tally, pattern) {
    if ((await runLua(tally, "test/lua", pattern)) === 0) {
      throw new Failure("no *_test.lua below test/lua");
    }
  },
  packaging: (tally, pattern) => runNode(tally, "test/packaging", pattern, 1),
  ts: (tally, pattern) => runNode(tally, "test/ts", pattern),
  // One file at a time: each has an nginx of its own, and what one leaves behind another would find.
  integration: (tally, pattern) => runNode(tally, "test/integration", pattern, 1),
};

/** @param {Tally} tally @param {string} name @param {() => Promise<void>} action */
async function step(tally, name, action) {
  console.log(`\n# ${name}`);
  const before = tally.passed + tally.failed;
  try {
    await action();
    if (tally.passed + tally.failed === before) tally.fail(`${name}: everything was skipped`);
  } catch (error) {
    const text = error instanceof Failure ? error.message : error;
    console.error(text);
    tally.fail(`${name}: ${String(text)}`);
  }
}

await script(async () => {
  const [only, pattern] = process.argv.slice(2);
  if (only !== undefined && suites[only] === undefined) {
    throw new Failure(`${only}: a suite is one of ${Object.keys(suites).join(", ")}`);
  }
  await setup({ group: "test", npm: true });
  await build();
  if (!exists(inRoot("dist/host.cjs"))) throw new Failure("the build made no dist/host.cjs");

  const { Tally } = await import("./lib/tally.mjs");
  const tally = new Tally();
  for (const [name, run] of Object.entries(suites)) {
    if (only === undefined || only === name) await step(tally, name, () => run(tally, pattern));
  }
  if (tally.skips.length > 0) console.log(`\nskipped:\n  ${tally.skips.join("\n  ")}`);
  if (tally.failures.length > 0) console.log(`\nfailed:\n  ${tally.failures.join("\n  ")}`);
  console.log(`\n${tally.passed} passed, ${tally.failed} failed`);
  if (tally.failed > 0) process.exitCode = 1;
});
