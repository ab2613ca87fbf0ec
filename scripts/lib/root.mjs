// Runs commands in a root file system, as root. The mounts are in a mount namespace of their own and the processes in a process
// namespace, and both end with the process that started them, whatever ends that, SIGKILL too: nothing is ever left behind.
// What a command writes is gone with it, unless it writes to a folder that was given to it for that.
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { isRoot } from "./apt.mjs";
import { Failure, inRoot } from "./run.mjs";

/**
 * A place in the root: `from` read-only, or to write to, or a copy of it, or an empty folder (`from` is then not used).
 * @typedef {{ to: string, from?: string, how: "read" | "write" | "copy" | "empty" }} Place
 */
/**
 * @typedef {object} Options
 * @property {Place[]} [places]
 * @property {NodeJS.ProcessEnv} [env] what the command has beside PATH, HOME and LANG
 * @property {string} [cwd] in the root; its / unless told
 * @property {boolean} [keep] what is written stays in the root
 */

/** Where root file systems are kept between runs. */
export const rootsFolder = () =>
  path.resolve(process.env.RTS_ROOTS ?? path.join(os.tmpdir(), "resty-ts-roots"));

export function mustBeRoot() {
  if (isRoot) return;
  throw new Failure("root file systems are made and mounted here: run this as root");
}

/** Where all of them are mounted: each in its own namespace, so none meets another. */
function mountPoint() {
  const folder = path.join(rootsFolder(), "mount");
  mkdirSync(folder, { recursive: true });
  return folder;
}

/**
 * The command line that runs a command with namespaces of its own, which end with whoever starts it.
 * @param {string[]} command
 */
export const inNamespaces = (command) => [
  ...["setpriv", "--pdeathsig", "KILL"],
  ...["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child"],
  ...command,
];

/**
 * The command that runs another one in a root, for those who start it in a way of their own; environmentOf() belongs to it.
 * @param {string} root @param {string[]} command @param {Options} options
 */
export function commandIn(root, command, { places = [], cwd = "/", keep = false } = {}) {
  mustBeRoot();
  const mounts = places.flatMap(({ how, from = "", to }) => [how, from, to]);
  const enter = [inRoot("scripts/lib/root-enter.sh"), keep ? "keep" : "forget", root, mountPoint()];
  const within = ["env", `--chdir=${cwd}`, ...command];
  return inNamespaces(["sh", ...enter, ...mounts, "--", ...within]);
}

/** What a command in a root has of an environment. @param {Options} [options] @returns {NodeJS.ProcessEnv} */
export const environmentOf = ({ env = {} } = {}) => ({
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
  HOME: "/root",
  LANG: "C.UTF-8",
  ...env,
});

/**
 * Starts a command in a root. The one signal that reaches it is SIGKILL, and that ends all that it started.
 * @param {string} root @param {string[]} command
 * @param {Options & { stdio?: import("node:child_process").StdioOptions }} [options]
 */
export function spawnIn(root, command, options = {}) {
  const [program = "", ...args] = commandIn(root, command, options);
  return spawn(program, args, { env: environmentOf(options), stdio: options.stdio ?? "pipe" });
}

/**
 * Runs a command in a root to its end, and returns what it printed.
 * @param {string} root @param {string[]} command @param {Options} [options]
 */
export function captureIn(root, command, options = {}) {
  const [program = "", ...args] = commandIn(root, command, options);
  const env = environmentOf(options);
  const result = spawnSync(program, args, { env, encoding: "utf8", maxBuffer: 1 << 28 });
  if (result.error !== undefined) throw new Failure(`${program}: ${result.error.message}`);
  const { status, stdout, stderr } = result;
  return { ok: status === 0, status, stdout, stderr };
}

/**
 * The same, where a failure is an error that shows what was printed.
 * @param {string} root @param {string[]} command @param {Options} [options]
 */
export async function runIn(root, command, options = {}) {
  const child = spawnIn(root, command, { ...options, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  /** @param {Buffer} chunk */
  const onData = (chunk) => void (output += chunk.toString());
  child.stdout?.on("data", onData);
  child.stderr?.on("data", onData);
  const code = await new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", resolve);
  });
  if (code !== 0) throw new Failure(`${output}\n${command.join(" ")}: exit status ${code}`);
  return output;
}
