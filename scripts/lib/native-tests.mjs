// The unit tests in C, built and run plain, with musl, for arm64 under emulation, under ASan with UBSan, under TSan, and as
// fuzzers for a short time.
import { existsSync, mkdirSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { emulator } from "./emulated.mjs";
import { filesBelow } from "./files.mjs";
import { crossTo } from "./platform.mjs";
import { capture, Failure, inRoot, runQuietly } from "./run.mjs";
import { runTap, stream } from "./tally.mjs";
import { crossDefines, muslDefines } from "./toolchains.mjs";

const FUZZ_SECONDS = 10;

/**
 * runner is put before the program.
 * @typedef {{ name: string, options: Record<string, string>, env: Record<string, string>, runner?: string[] }} Variant
 */

/** None on an arm64 machine, where plain is that. @returns {Variant[]} */
function emulated() {
  const cross = crossTo("linux-arm64");
  if (cross === undefined) return [];
  // The cross compiler's libc lies there.
  const runner = emulator(cross.processor, ["-L", `/usr/${cross.triplet}`]);
  return [{ name: cross.arch, options: crossDefines(cross), env: {}, runner }];
}

/** @returns {Variant[]} */
const variants = () => [
  { name: "plain", options: {}, env: {} },
  { name: "musl", options: muslDefines(inRoot("build-test/kernel-headers")), env: {} },
  ...emulated(),
  {
    name: "asan",
    options: { RTS_SANITIZE: "address,undefined" },
    env: {
      ASAN_OPTIONS: "detect_leaks=1:strict_string_checks=1",
      UBSAN_OPTIONS: "print_stacktrace=1",
    },
  },
  {
    name: "tsan",
    options: { RTS_SANITIZE: "thread" },
    env: { TSAN_OPTIONS: "halt_on_error=1:second_deadlock_stack=1" },
    runner: withoutRandomAddresses(),
  },
];

/** @param {string} name @param {Record<string, string>} options @param {NodeJS.ProcessEnv} [env] */
export async function buildVariant(name, options, env = process.env) {
  const folder = inRoot("build-test", name);
  const defines = Object.entries({
    CMAKE_BUILD_TYPE: "RelWithDebInfo",
    RTS_WERROR: "ON",
    ...options,
  });
  if (!existsSync(path.join(folder, "Makefile"))) {
    const args = ["-G", "Unix Makefiles", "-S", inRoot(), "-B", folder];
    await runQuietly("cmake", [...args, ...defines.map(([key, value]) => `-D${key}=${value}`)], {
      env,
    });
  }
  await runQuietly("cmake", ["--build", folder, "--parallel", String(os.availableParallelism())]);
  return path.join(folder, "bin");
}

/**
 * gcc's TSan cannot place its shadow memory where addresses are random over more than 28 bits, as on newer kernels.
 * Docker's seccomp profile forbids switching that off, so only where it may be done.
 */
function withoutRandomAddresses() {
  return capture("setarch", ["-R", "true"]).ok ? ["setarch", "-R"] : [];
}

/** @param {string} folder @param {string | undefined} pattern */
const programs = (folder, pattern) =>
  filesBelow(folder, (name) => name.endsWith(".c"))
    .filter(
      (file) => path.dirname(file) === folder && (pattern === undefined || file.includes(pattern)),
    )
    .map((file) => path.basename(file, ".c"));

/** @param {import("./tally.mjs").Tally} tally @param {string} [pattern] */
export async function runNative(tally, pattern) {
  const names = programs("test/native", pattern);
  for (const { name: variant, options, env, runner = [] } of names.length > 0 ? variants() : []) {
    const bin = await buildVariant(variant, { RTS_TESTS: "ON", RTS_BACKEND: "OFF", ...options });
    for (const name of names) {
      console.log(`# native ${variant}: ${name}`);
      const command = [...runner, path.join(bin, name)];
      await runTap(tally, `native ${variant} ${name}`, command, {
        env: { ...process.env, ...env },
      });
    }
  }
  const fuzzers = programs("test/fuzz", pattern);
  if (names.length + fuzzers.length === 0) throw new Failure("no native tests found");
  if (fuzzers.length > 0) await runFuzzers(tally, fuzzers);
}

/** @param {import("./tally.mjs").Tally} tally @param {string[]} names */
async function runFuzzers(tally, names) {
  for (const name of names) {
    const wrong = await runFuzzer(name, Math.max(1, Math.floor(FUZZ_SECONDS / names.length)));
    if (wrong === undefined) tally.pass();
    else tally.fail(`native fuzz ${name}: ${wrong}`);
  }
}

/**
 * Builds a libFuzzer target and runs it from the one corpus; what it finds to be new stays below build-test.
 * @param {string} name @param {number} seconds @param {(line: string) => void} [onLine]
 * @returns {Promise<string | undefined>} what is wrong
 */
export async function runFuzzer(name, seconds, onLine = () => {}) {
  const compilers = { CMAKE_C_COMPILER: "clang", CMAKE_CXX_COMPILER: "clang++" };
  const bin = await buildVariant("fuzz", { RTS_FUZZ: "ON", RTS_BACKEND: "OFF", ...compilers });
  const findings = inRoot("build-test/fuzz/findings", name);
  mkdirSync(findings, { recursive: true });
  console.log(`# native fuzz: ${name}, ${seconds} s`);
  const flags = [
    `-max_total_time=${seconds}`,
    `-artifact_prefix=${findings}/crash-`,
    "-verbosity=0",
    "-print_final_stats=1",
  ];
  const command = [path.join(bin, name), ...flags, findings, inRoot("test/fuzz/corpus")];
  // libFuzzer writes to stderr only.
  const { code, signal } = await stream(["sh", "-c", 'exec "$@" 2>&1', "sh", ...command], onLine);
  return code === 0 ? undefined : `${signal ?? `exit status ${code}`}; input in ${findings}`;
}
