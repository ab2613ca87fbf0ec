// Small helpers for the scripts that run before anything is installed: plain Node, no packages.
import { spawn, spawnSync } from "node:child_process";
import { accessSync, constants, statSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../..");

/** @param {string[]} parts a path below the project's root */
export const inRoot = (...parts) => path.join(root, ...parts);

/** A failure whose message is all that the user needs: no stack is printed for it. */
export class Failure extends Error {}

/** @param {string} file */
export function exists(file) {
  return statSync(file, { throwIfNoEntry: false }) !== undefined;
}

/** Modification time in ms; 0 when the file is missing. @param {string} file */
export function modified(file) {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0;
}

/**
 * The path of a command, or undefined. The sbin folders count too: nginx lives there, and a plain user's PATH lacks them.
 * @param {string} name
 */
export function which(name) {
  const folders = (process.env.PATH ?? "")
    .split(":")
    .concat("/usr/sbin", "/sbin", "/usr/local/sbin");
  for (const folder of folders) {
    if (folder === "") continue;
    const file = path.join(folder, name);
    try {
      accessSync(file, constants.X_OK);
      if (statSync(file).isFile()) return file;
    } catch {
      // not in this folder
    }
  }
  return undefined;
}

/**
 * Runs to the end and returns what was printed.
 * @param {string} command
 * @param {string[]} args
 * @param {import("node:child_process").SpawnSyncOptions} [options]
 */
export function capture(command, args, options = {}) {
  const result = spawnSync(command, args, { maxBuffer: 1 << 28, ...options, encoding: "utf8" });
  const { error, status } = result;
  // A command that could not be started has no output at all, whatever the types say.
  if (error !== undefined) return { ok: false, status: null, stdout: "", stderr: error.message };
  return { ok: status === 0, status, stdout: result.stdout, stderr: result.stderr };
}

/**
 * As capture, but others can run meanwhile; both outputs in one.
 * @param {string} command
 * @param {string[]} args
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Promise<{ ok: boolean, output: string }>}
 */
export function captureLater(command, args, env = process.env) {
  return new Promise((resolve) => {
    const child = spawn(command, args, { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    /** @param {Buffer} chunk */
    const onData = (chunk) => void (output += chunk.toString());
    child.stdout.on("data", onData);
    child.stderr.on("data", onData);
    child.on("error", (error) => resolve({ ok: false, output: error.message }));
    child.on("close", (code) => resolve({ ok: code === 0, output }));
  });
}

/**
 * Runs with our stdio; a failure is thrown as one sentence.
 * @param {string} command
 * @param {string[]} args
 * @param {import("node:child_process").SpawnOptions} [options]
 * @returns {Promise<void>}
 */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: "inherit", cwd: root, ...options });
    child.on("error", (error) => reject(new Failure(`${command}: ${error.message}`)));
    child.on("close", (code, signal) => {
      if (code === 0) resolve();
      else
        reject(
          new Failure(
            `${path.basename(command)} ${args.join(" ")}: ${signal ?? `exit status ${code}`}`,
          ),
        );
    });
  });
}

/** Of make's chatter, what a reader wants. @param {string} line */
export const isProgress = (line) =>
  /^\[[ \d]+%\] (Building|Linking)|^ {2}(CC|CXX|SOLINK)/.test(line);

/**
 * Runs and prints only the lines of progress that `keep` picks, but everything when it failed; also, unless told not to,
 * when it warned of something.
 * @param {string} command
 * @param {string[]} args
 * @param {Omit<import("node:child_process").SpawnOptions, "stdio"> & { keep?: (line: string) => boolean, warnings?: boolean }} [options]
 * @returns {Promise<void>}
 */
export function runQuietly(
  command,
  args,
  { keep = () => false, warnings = true, ...options } = {},
) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: root,
      ...options,
      stdio: ["ignore", "pipe", "pipe"],
    });
    let all = "";
    let partial = "";
    /** @param {Buffer} chunk */
    const onData = (chunk) => {
      const text = chunk.toString();
      all += text;
      const lines = (partial + text).split("\n");
      partial = lines.pop() ?? "";
      for (const line of lines) if (keep(line)) console.log(line);
    };
    child.stdout.on("data", onData);
    child.stderr.on("data", onData);
    child.on("error", (error) => reject(new Failure(`${command}: ${error.message}`)));
    child.on("close", (code, signal) => {
      if (code !== 0 || (warnings && /\bwarning:/.test(all))) process.stderr.write(all);
      if (code === 0) return resolve();
      reject(
        new Failure(
          `${path.basename(command)} ${args.join(" ")}: ${signal ?? `exit status ${code}`}`,
        ),
      );
    });
  });
}

/**
 * Wraps a script's main function: a Failure is one line on stderr, anything else keeps its stack. Exit status 1 for both.
 * @param {() => Promise<void> | void} main
 */
export async function script(main) {
  try {
    await main();
  } catch (error) {
    console.error(error instanceof Failure ? error.message : error);
    process.exitCode = 1;
  }
}

/** True when this module was started by `node FILE`, not imported. @param {string} url import.meta.url */
export function isMain(url) {
  return process.argv[1] !== undefined && path.resolve(process.argv[1]) === fileURLToPath(url);
}
