// The checks that look at the sources and run nothing: one list, for `lint`, `format` and the tests.
import { existsSync } from "node:fs";
import os from "node:os";
import { cFiles, cxxFiles } from "./files.mjs";
import { captureLater, Failure, inRoot, which } from "./run.mjs";

/**
 * With `each`, the command runs once for each of these files, several at a time: as many as leave a core to others.
 * @typedef {{ title: string, command: string, args: string[], each?: string[] }} Check
 */

/** @param {string} name a command of a package in node_modules */
const bin = (name) => inRoot("node_modules/.bin", name);

/** @param {string} name @param {string} package_ */
function installed(name, package_) {
  if (which(name) === undefined) {
    throw new Failure(
      `${name} is missing (${package_}): run \`node scripts/setup.mjs --for test\``,
    );
  }
  return name;
}

/** @returns {Check[]} */
export function formatters({ check = true } = {}) {
  const clangFormat = installed("clang-format", "clang-format");
  const how = check ? ["--dry-run", "--Werror"] : ["-i"];
  return [
    {
      title: "Prettier would change nothing",
      command: bin("prettier"),
      args: [check ? "--check" : "--write", "--log-level=warn", "."],
    },
    {
      title: "clang-format would change no C",
      command: clangFormat,
      args: ["--style=file:.clang-format", ...how, ...cFiles()],
    },
    {
      title: "clang-format would change no C++",
      command: clangFormat,
      args: ["--style=file:.clang-format-cxx", ...how, ...cxxFiles()],
    },
  ].filter((one) => one.command !== clangFormat || one.args.length > how.length + 1);
}

/** @returns {Check[]} */
export function linters() {
  installed("clang-tidy", "clang-tidy");
  installed("luacheck", "lua-check");
  if (!existsSync(inRoot("build-cmake/compile_commands.json"))) {
    throw new Failure("clang-tidy needs build-cmake/: run `npm run build` first");
  }
  const compiled = [...cFiles(), ...cxxFiles()].filter((name) => /^native\/.*\.cc?$/.test(name));
  return [
    { title: "tsc finds no error", command: bin("tsc"), args: ["-p", "tsconfig.json"] },
    { title: "ESLint finds nothing", command: bin("eslint"), args: ["--max-warnings=0", "."] },
    { title: "luacheck finds nothing", command: "luacheck", args: ["-q", "."] },
    {
      title: "clang-tidy finds nothing",
      command: "clang-tidy",
      args: ["-p", "build-cmake", "--quiet"],
      each: compiled,
    },
    {
      title: "what is generated is fresh, and the version is one",
      command: bin("tsx"),
      args: ["scripts/generate.ts", "--check"],
    },
    {
      title: "every item that plugin authors import is documented, and docs/api is fresh",
      command: process.execPath,
      args: ["scripts/docs.mjs", "--check"],
    },
    {
      title: "the documentation's site builds, and no link in it is dead",
      command: process.execPath,
      args: ["scripts/site.mjs"],
    },
  ];
}

/** Runs one and prints its output when it fails. @param {Check} check */
async function passes({ command, args, each }) {
  const pending = each === undefined ? [args] : each.map((file) => [...args, file]);
  let ok = true;
  const work = async () => {
    for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
      const result = await captureLater(command, next);
      if (!result.ok) process.stderr.write(result.output);
      ok &&= result.ok;
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, os.availableParallelism() - 1) }, work));
  return ok;
}

/**
 * Runs them all, those of many files beside the others, which are one after the other: some write what others would look at.
 * @param {Check[]} checks @param {(check: Check, ok: boolean) => void} report
 */
export async function runChecks(checks, report) {
  /** @param {Check[]} lane */
  const inTurn = async (lane) => {
    for (const check of lane) {
      const ok = await passes(check);
      console.log(`${ok ? "ok" : "not ok"} - ${check.title}`);
      report(check, ok);
    }
  };
  const ofMany = checks.filter(({ each }) => each !== undefined);
  await Promise.all([inTurn(ofMany), inTurn(checks.filter((check) => !ofMany.includes(check)))]);
}
