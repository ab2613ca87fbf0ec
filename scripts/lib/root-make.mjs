// Makes root file systems of Debian's suites, with packages, and keeps them for other runs: rootsFolder()/SUITE is what debootstrap
// made, SUITE-HASH that with a list of packages. One that is there is whole, and nobody writes to it any more: remove the folder
// to have it made anew. The archive, and how it is reached, is this machine's own: apt's configuration, or RTS_MIRROR.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import * as apt from "./apt.mjs";
import { inNamespaces, mustBeRoot, rootsFolder, runIn } from "./root.mjs";
import { capture, Failure, runQuietly, which } from "./run.mjs";

const SCRIPTS = "/usr/share/debootstrap/scripts";
/** How packages are fetched, of all that apt can be told. */
const FETCHING = /^Acquire::(?:https?|Check-|Retries|ForceIPv|Languages)/;

/** The archive that this machine has Debian's packages from. */
function mirror() {
  const named = process.env.RTS_MIRROR;
  if (named !== undefined && named !== "") return named;
  const format = "$(ORIGIN)|$(LABEL)|$(SITE)";
  const { stdout } = capture("apt-get", ["indextargets", "--format", format]);
  const line = stdout.split("\n").find((each) => each.startsWith("Debian|Debian|"));
  if (line === undefined)
    throw new Failure("apt here knows no archive of Debian: name one by RTS_MIRROR=URL");
  return line.split("|")[2] ?? "";
}

/** Removes what runs that were killed left half made. @param {string} folder */
function removePartial(folder) {
  for (const name of readdirSync(folder)) {
    const pid = /\.new-(\d+)$/.exec(name)?.[1];
    if (pid !== undefined && !existsSync(`/proc/${pid}`))
      rmSync(path.join(folder, name), { recursive: true });
  }
}

/**
 * The folder of that name, made by `make` where there is none. Who makes the same one meanwhile makes it in vain.
 * @param {string} name @param {(folder: string) => Promise<void>} make
 */
async function kept(name, make) {
  const roots = rootsFolder();
  mkdirSync(roots, { recursive: true });
  const folder = path.join(roots, name);
  if (existsSync(folder)) return folder;
  removePartial(roots);
  const partial = `${folder}.new-${process.pid}`;
  try {
    await make(partial);
    if (!existsSync(folder)) renameSync(partial, folder);
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
  return folder;
}

/** @param {string} suite @param {string} folder */
async function debootstrap(suite, folder) {
  if (which("debootstrap") === undefined) await apt.install(["debootstrap"]);
  // All of Debian's later suites are made as sid is; the program may be older than the suite.
  const script = existsSync(path.join(SCRIPTS, suite)) ? [] : [path.join(SCRIPTS, "sid")];
  const [program = "", ...args] = inNamespaces([
    ...["debootstrap", "--variant=minbase", suite, folder, mirror()],
    ...script,
  ]);
  console.log(`debootstrap ${suite}`);
  await runQuietly(program, args, { warnings: false });

  const fetching = capture("apt-config", ["dump"]).stdout.split("\n");
  const lines = fetching.filter((line) => FETCHING.test(line));
  writeFileSync(path.join(folder, "etc/apt/apt.conf.d/90host"), `${lines.join("\n")}\n`);
  // Packages start their daemons when they are installed, unless this forbids it.
  writeFileSync(path.join(folder, "usr/sbin/policy-rc.d"), "#!/bin/sh\nexit 101\n", {
    mode: 0o755,
  });
}

/** @param {string} base @param {string[]} packages @param {string} folder */
async function install(base, packages, folder) {
  await runQuietly("cp", ["-a", "--reflink=auto", base, folder]);
  const env = { DEBIAN_FRONTEND: "noninteractive" };
  const options = { keep: true, env };
  await runIn(folder, ["apt-get", "update", "-qq"], options);
  const args = ["install", "-y", "-qq", "--no-install-recommends", ...packages];
  await runIn(folder, ["apt-get", ...args], options);
  await runIn(folder, ["apt-get", "clean"], options);
}

/** Of the folder with these packages. @param {string} suite @param {string[]} packages */
export function nameOf(suite, packages) {
  const list = [...new Set(packages)].sort().join(" ");
  return `${suite}-${createHash("sha256").update(list).digest("hex").slice(0, 12)}`;
}

/**
 * The folder of a suite of Debian's with these packages; it is not to be written to, which is what runIn and its like see to.
 * @param {string} suite bookworm, say @param {string[]} [packages]
 */
export async function ensureRoot(suite, packages = []) {
  mustBeRoot();
  const base = await kept(suite, (folder) => debootstrap(suite, folder));
  if (packages.length === 0) return base;
  const sorted = [...new Set(packages)].sort();
  return kept(nameOf(suite, packages), async (folder) => {
    console.log(`${suite}: ${apt.installLine(sorted)}`);
    await install(base, sorted, folder);
  });
}
