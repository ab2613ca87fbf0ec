// What a shared library says of itself, read by binutils: exports, needs, and how it is to be loaded.
import { capture, Failure } from "./run.mjs";

/** @param {string} command @param {string[]} args */
function output(command, args) {
  const result = capture(command, args, { env: { ...process.env, LC_ALL: "C" } });
  if (!result.ok) throw new Failure(`${command} ${args.join(" ")}: ${result.stderr.trim()}`);
  return result.stdout;
}

/** @param {string} text @param {RegExp} pattern with one group */
const all = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1] ?? "");

/** @param {string[]} versions such as 2.2.5, 2.34 */
function highest(versions) {
  /** @param {string} version */
  const weight = (version) =>
    version.split(".").reduce((sum, part, index) => sum + Number(part) / 1000 ** index, 0);
  return versions.sort((a, b) => weight(b) - weight(a))[0];
}

/**
 * Names of what it exports, the nodes of a version script left out; needed are the libraries, flags DT_FLAGS and DT_FLAGS_1
 * in words, machine as readelf has it, glibc the highest version of it that is needed (undefined: none).
 * @param {string} file
 */
export function readElf(file) {
  const dynamic = output("readelf", ["-Wd", file]);
  const segments = output("readelf", ["-Wl", file]);
  const versions = all(output("readelf", ["-WV", file]), /Name: GLIBC_(\d[\d.]*)/g);
  return {
    machine: /Machine:.*?([\w-]+)$/m.exec(output("readelf", ["-h", file]))?.[1],
    exports: all(output("nm", ["-D", "--defined-only", "-P", file]), /^([^\s@]+)\S* [^A]\b/gm),
    needed: all(dynamic, /\(NEEDED\).*\[(.*)\]/g),
    runpath: all(dynamic, /\((?:RUNPATH|RPATH)\).*\[(.*)\]/g),
    flags: all(dynamic, /\(FLAGS(?:_1)?\)\s+(.*)/g).flatMap((text) =>
      text.replace("Flags:", "").trim().split(/\s+/),
    ),
    hasTextRelocations: /\(TEXTREL\)/.test(dynamic),
    hasRelro: /GNU_RELRO/.test(segments),
    hasExecutableStack: !/GNU_STACK.* RW +0x/.test(segments),
    buildId: all(output("readelf", ["-Wn", file]), /Build ID: (\w+)/g)[0],
    glibc: highest(versions),
  };
}
