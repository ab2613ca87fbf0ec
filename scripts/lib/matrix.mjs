// What `npm run test:matrix` does: one bundle, three Debians, one table.
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { build } from "../build.mjs";
import { filesBelow } from "./files.mjs";
import { ensureNodes, nodes } from "./nodes.mjs";
import { platform } from "./platform.mjs";
import { ensureRoot } from "./root-make.mjs";
import { captureIn, commandIn, environmentOf, runIn } from "./root.mjs";
import { exists, Failure, inRoot, which } from "./run.mjs";
import { runNodeTests, Tally } from "./tally.mjs";

/** @typedef {import("./root.mjs").Place} Place */
/** @typedef {{ suite: string, versions: string[], tally: Tally }} Row */

/** Oldest first: the bundle is built on it. */
export const SUITES = ["bookworm", "trixie", "forky"];

/** libnode-dev has the headers that the backend is built with; running it takes the libnodeN that it brings along. */
const RUNNING = [
  ...["nginx", "libnginx-mod-http-lua", "libnginx-mod-http-js", "libnode-dev", "nodejs"],
  ...["lua-cjson", "openssl", "curl", "procps", "strace", "wrk", "redis-server", "ca-certificates"],
];
const BUILDING = ["libnode-dev", "g++", "make", "cmake", "python3"];

/** Debian 12 has two luajits: the one whose library nginx's Lua module brings. @param {string} suite */
export const packagesOf = (suite) => [...RUNNING, suite === "bookworm" ? "luajit2" : "luajit"];

/** In the roots. */
const PROJECT = "/srv/lua-resty-ts";
const BUNDLES = "/opt";
const NPM = "/usr/local/lib/node_modules/npm";
/** The Node that builds and that runs the tests: the same everywhere. nginx's is the distribution's. */
const MAJOR = 22;
const NODE = `${PROJECT}/.deps/nodes/${MAJOR}/node`;

/** The project's files without anything that was built. @returns {Place[]} */
function project() {
  return [
    { how: "copy", from: inRoot(), to: PROJECT },
    ...["build", "prebuilds", ".deps"].map((name) => ({
      how: /** @type {const} */ ("empty"),
      to: `${PROJECT}/${name}`,
    })),
    { how: "read", from: inRoot(".deps/nodes"), to: `${PROJECT}/.deps/nodes` },
  ];
}

/** The bundle's file. @param {string} out a folder @param {string[]} roots with libnode-dev */
async function makeBundle(out, roots) {
  mkdirSync(out, { recursive: true });
  const root = await ensureRoot(SUITES[0] ?? "", BUILDING);
  /** @type {Place[]} */
  const others = roots.map((from, index) => ({ how: "read", from, to: `/libnodes/${index}` }));
  const prefixes = others.flatMap(({ to }) => ["--libnode", `${to}/usr`]);
  /** @type {Place[]} */
  const places = [...project(), ...others, { how: "write", from: path.resolve(out), to: "/out" }];
  const command = `
    node() { ${NODE} "$@"; }
    node scripts/prebuild.mjs --out /out "$@"
    ln -s /out/${platform} prebuilds/
    node dist/cli/main.js bundle --out /out/resty-ts-${platform}.tar.gz`;
  console.log("the bundle");
  const args = ["sh", "-euc", command, "sh", ...prefixes];
  console.log(await runIn(root, args, { places, cwd: PROJECT }));
  return path.join(out, `resty-ts-${platform}.tar.gz`);
}

/** Versions of what differs between the distributions. @param {string} root */
function versionsIn(root) {
  const names = ["nginx", "libnginx-mod-http-lua", "lua-resty-core", "libnode[0-9]*"];
  const { stdout } = captureIn(root, [
    "dpkg-query",
    "-W",
    "-f",
    "${Package} ${Version}\n",
    ...names,
  ]);
  // 1:0.10.28-2 is Debian's second package of 0.10.28.
  return names.map((name) => {
    const line = new RegExp(`^${name} (?:\\d+:)?([\\d.]+)`, "m").exec(stdout);
    return line?.[1] ?? "none";
  });
}

/** @param {string} suite @param {string} root @param {string} bundle @param {string[]} files @returns {Promise<Row>} */
async function run(suite, root, bundle, files) {
  const tally = new Tally();
  const npm = path.resolve(which("npm") ?? "", "../../lib/node_modules/npm");
  /** @type {Place[]} */
  const places = [
    ...project(),
    { how: "read", from: bundle, to: "/tmp/bundle.tar.gz" },
    { how: "read", from: npm, to: NPM },
    // What compiles plugins in TypeScript, where Node looks for it from the bundle's host.
    ...["esbuild", "@esbuild"].map((name) => ({
      how: /** @type {const} */ ("read"),
      from: inRoot("node_modules", name),
      to: `${BUNDLES}/node_modules/${name}`,
    })),
  ];
  const command = `
    tar -xzf /tmp/bundle.tar.gz -C ${BUNDLES}
    export RTS_BUNDLE="$(echo ${BUNDLES}/resty-ts-*)"
    (cd "$RTS_BUNDLE" && sha256sum --check --strict --quiet SHA256SUMS)
    # For the command resty-ts, which looks for the npm package's, and npm pack, which follows no links.
    cp -r "$RTS_BUNDLE/lib" prebuilds/${platform}
    ln -sf ${NPM}/bin/npm-cli.js /usr/local/bin/npm
    ln -sf ${NPM}/bin/npx-cli.js /usr/local/bin/npx
    exec ${NODE} "$@"`;
  const options = { places, cwd: PROJECT };
  console.log(`\n# ${suite}`);
  await runNodeTests(tally, suite, files, {
    concurrency: 1,
    node: commandIn(root, ["sh", "-euc", command, "sh"], options),
    env: environmentOf(options),
  });
  return { suite, versions: versionsIn(root), tally };
}

/** @param {Row[]} rows */
function table(rows) {
  const head = ["Debian", "nginx", "Lua module", "resty.core", "libnode", "passed", "failed"];
  const lines = rows.map(({ suite, versions, tally }) =>
    [suite, ...versions, tally.passed, tally.failed].map(String),
  );
  const widths = head.map((name, at) =>
    Math.max(...[name, ...lines.map((line) => line[at] ?? "")].map(({ length }) => length)),
  );
  /** @param {string[]} cells */
  const row = (cells) => cells.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join("  ");
  return [head, ...lines].map((cells) => row(cells).trimEnd()).join("\n");
}

/** @param {Row[]} rows */
function report(rows) {
  const all = [...rows].map(({ tally }) => tally);
  for (const { skips, failures } of all) {
    if (skips.length > 0) console.log(`\nskipped:\n  ${skips.join("\n  ")}`);
    if (failures.length > 0) console.log(`\nfailed:\n  ${failures.join("\n  ")}`);
  }
  const sum = (/** @type {"passed" | "failed"} */ what) =>
    all.reduce((total, tally) => total + tally[what], 0);
  console.log(`\n${table(rows)}\n\n${sum("passed")} passed, ${sum("failed")} failed`);
  if (sum("failed") > 0) process.exitCode = 1;
}

/** A folder for the time of a run, however that ends, but for SIGKILL. */
function scratchFolder() {
  const folder = mkdtempSync(path.join(os.tmpdir(), "resty-ts-matrix-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  // What runs in the roots ends with us.
  for (const [signal, number] of /** @type {const} */ ([
    ["SIGINT", 2],
    ["SIGTERM", 15],
  ])) {
    process.once(signal, () => process.exit(128 + number));
  }
  return folder;
}

/**
 * @typedef {object} MatrixOptions
 * @property {string[]} suites
 * @property {string} pattern part of the test files' paths
 * @property {string | undefined} out a folder that gets what is made
 * @property {string | undefined} bundle one to be tried, in place of one that is made here
 */
/** @param {MatrixOptions} options */
export async function runMatrix({ suites, pattern, out, bundle }) {
  if (!exists(inRoot("node_modules")))
    throw new Failure("node_modules is missing: run `npm run setup`");
  if (bundle !== undefined && !exists(bundle))
    throw new Failure(`--bundle ${bundle}: there is no such file`);
  const files = filesBelow("test/integration", (name) => name.endsWith(".test.ts"));
  const picked = files.filter((name) => name.includes(pattern));
  if (picked.length === 0) throw new Failure(`no test below test/integration has ${pattern}`);
  await build(["host", "dist"]);
  ensureNodes();
  if (!nodes().has(MAJOR)) throw new Failure(`.deps/nodes/${MAJOR} is missing, see above`);

  /** @type {Map<string, string>} */
  const roots = new Map();
  for (const suite of bundle === undefined ? SUITES : suites)
    roots.set(suite, await ensureRoot(suite, packagesOf(suite)));
  const made = bundle ?? (await makeBundle(out ?? scratchFolder(), [...roots.values()]));
  /** @type {Row[]} */
  const rows = [];
  for (const suite of suites)
    rows.push(await run(suite, roots.get(suite) ?? "", path.resolve(made), picked));
  report(rows);
}
