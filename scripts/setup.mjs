// Installs what is missing to run the demo, the tests or the benchmark, and says what that was. Does nothing when all is there.
//   node scripts/setup.mjs [--for demo|test|bench] [--npm]
// Plain Node with no packages: it runs before `npm ci`. Without root it prints the one line that root has to run.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import * as apt from "./lib/apt.mjs";
import { ensureLibnode, packagesForRoot } from "./lib/libnode.mjs";
import { ensureNodes } from "./lib/nodes.mjs";
import { missing } from "./lib/packages.mjs";
import { exists, Failure, inRoot, isMain, run, script } from "./lib/run.mjs";

/** @param {import("./lib/packages.mjs").Group} group */
async function ensureSystem(group) {
  const lacking = missing(group);
  if (lacking.length === 0) return;
  const names = lacking.map((need) => need.what).join(", ");
  if (!apt.hasApt)
    throw new Failure(`missing: ${names}; this script installs them on Debian and Ubuntu only`);
  if (!apt.isRoot) {
    const packages = new Set([...lacking.flatMap((need) => need.packages()), ...packagesForRoot()]);
    throw new Failure(`missing: ${names}; as root: ${apt.installLine([...packages])}`);
  }
  // clang's version, and with it a package's name, can only be asked for where there are package lists.
  if (!apt.isKnown("nginx")) await apt.update();
  console.log(`missing: ${names}`);
  await apt.install([...new Set(lacking.flatMap((need) => need.packages()))]);
  const still = missing(group);
  if (still.length > 0)
    throw new Failure(
      `installed, but still not found: ${still.map((need) => need.what).join(", ")}`,
    );
}

/** @typedef {{ packages: Record<string, { version?: string, optional?: boolean }> }} Lockfile */

/** Does node_modules hold what the lockfile says? Compared by content: a checkout moves times about. */
function npmIsCurrent() {
  const installed = inRoot("node_modules/.package-lock.json");
  if (!exists(installed)) return false;
  const want = /** @type {Lockfile} */ (
    JSON.parse(readFileSync(inRoot("package-lock.json"), "utf8"))
  ).packages;
  const have = /** @type {Lockfile} */ (JSON.parse(readFileSync(installed, "utf8"))).packages;
  return Object.entries(want).every(([name, entry]) => {
    if (name === "") return true;
    const found = have[name];
    return found === undefined ? entry.optional === true : found.version === entry.version;
  });
}

async function ensureNpm() {
  if (npmIsCurrent()) return;
  console.log("npm ci");
  await run("npm", ["ci", "--no-audit", "--no-fund"]);
}

/** @param {{ group: import("./lib/packages.mjs").Group, npm: boolean }} options */
export async function setup({ group, npm }) {
  await ensureSystem(group);
  await ensureLibnode();
  if (npm) await ensureNpm();
  if (group !== "demo") ensureNodes();
}

if (isMain(import.meta.url)) {
  await script(async () => {
    const { values } = parseArgs({
      options: {
        for: { type: "string", default: "demo" },
        npm: { type: "boolean", default: false },
      },
    });
    const group = values.for;
    if (group !== "demo" && group !== "test" && group !== "bench")
      throw new Failure(`--for ${group}: demo, test or bench`);
    await setup({ group, npm: values.npm });
  });
}
