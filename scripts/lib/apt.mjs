// apt-get, kept to what the set-up needs: install without questions, without recommended extras, and without starting daemons.
import { chmodSync, existsSync, rmSync, writeFileSync } from "node:fs";
import { capture, captureLater, Failure, runQuietly, which } from "./run.mjs";

const POLICY = "/usr/sbin/policy-rc.d";
const environment = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
/** dpkg tells of every file that it unpacks. */
const options = { env: environment, warnings: false };

export const isRoot = process.getuid?.() === 0;
export const hasApt = which("apt-get") !== undefined;

/** @param {string[]} packages */
export const installLine = (packages) =>
  `apt-get install -y --no-install-recommends ${packages.join(" ")}`;

/** False on a machine whose package lists were never fetched, or were removed to save room. @param {string} name */
export function isKnown(name) {
  return /Candidate: [^(\s]/.test(capture("apt-cache", ["policy", name]).stdout);
}

export async function update() {
  console.log("apt-get update");
  await runQuietly("apt-get", ["update", "-qq"], options);
}

/** Would installing these change or remove Node, or fail? @param {string[]} packages */
export function leavesNodeAlone(packages) {
  const plan = capture("apt-get", ["install", "-s", "--no-install-recommends", ...packages], {
    env: { ...environment, LC_ALL: "C" },
  });
  return (
    plan.ok && !/^Remv /m.test(plan.stdout) && !/^Inst (nodejs|libnode\d+) /m.test(plan.stdout)
  );
}

/**
 * The packages of nginx and Redis start their daemons when they are installed. Debian's own way to forbid it is this file;
 * where there is one already, whoever wrote it has decided.
 * @param {() => Promise<void>} action
 */
async function withoutDaemons(action) {
  if (existsSync(POLICY)) return action();
  const remove = () => rmSync(POLICY, { force: true });
  const interrupted = () => {
    remove();
    process.exit(130);
  };
  writeFileSync(POLICY, "#!/bin/sh\nexit 101\n", { flag: "wx" });
  chmodSync(POLICY, 0o755);
  process.once("SIGINT", interrupted).once("SIGTERM", interrupted);
  try {
    await action();
  } finally {
    remove();
    process.off("SIGINT", interrupted).off("SIGTERM", interrupted);
  }
}

/** @param {string[]} packages */
export async function install(packages) {
  const args = [
    "install",
    "-y",
    "-qq",
    "--no-install-recommends",
    "-o",
    "Dpkg::Use-Pty=0",
    ...packages,
  ];
  console.log(installLine(packages));
  await withoutDaemons(async () => {
    if (packages.every(isKnown)) {
      const first = await captureLater("apt-get", args, environment);
      if (first.ok) return;
      console.log("the install failed; once more with fresh package lists");
    }
    await update();
    await runQuietly("apt-get", args, options);
  });
}

/** Downloads .deb files into a folder; needs no root. @param {string[]} packages @param {string} folder */
export async function download(packages, folder) {
  // apt would fetch as the user _apt, who may not write here, and warn about it.
  const sandbox = isRoot ? ["-o", "APT::Sandbox::User=root"] : [];
  console.log(`apt-get download ${packages.join(" ")}`);
  await runQuietly("apt-get", ["download", "-qq", ...sandbox, ...packages], {
    ...options,
    cwd: folder,
  });
}

/** Names of the packages that this one depends on. @param {string} name */
export function dependencies(name) {
  const result = capture("apt-cache", ["depends", "--important", name], {
    env: { ...environment, LC_ALL: "C" },
  });
  if (!result.ok) throw new Failure(`apt knows no package ${name}`);
  return [...result.stdout.matchAll(/^ {2}(?:Pre)?Depends: ([^<\s]+)/gm)].map(
    (match) => /** @type {string} */ (match[1]),
  );
}
