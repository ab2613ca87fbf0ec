// The integration suite with the library and the backend under AddressSanitizer and UBSan, in the ordinary nginx and with
// the ordinary libnode: only what is ours is instrumented. Any report fails the run.
//   npm run test:sanitized [-- PATTERN]     PATTERN is part of a file's path
import * as fs from "node:fs";
import path from "node:path";
import { build } from "./build.mjs";
import { filesBelow } from "./lib/files.mjs";
import { buildVariant } from "./lib/native-tests.mjs";
import { capture, Failure, inRoot, script } from "./lib/run.mjs";
import { runNodeTests, Tally } from "./lib/tally.mjs";

const FOLDER = inRoot("build-test/sanitized");
const LIBRARIES = path.join(FOLDER, "Release");
const REPORTS = path.join(FOLDER, "reports");

/** The sanitizers' own libraries, which have to be loaded before nginx's first malloc. */
function preload() {
  return ["libasan.so", "libubsan.so"]
    .map((name) => capture("gcc", [`-print-file-name=${name}`]).stdout.trim())
    .join(" ");
}

/** @returns {Record<string, string>} */
function settings() {
  const asan = {
    log_path: path.join(REPORTS, "asan"),
    // nginx, LuaJIT and V8 leave what they have to the end of the process; the unit tests look for leaks.
    detect_leaks: 0,
    // Node's own and the tests', which kill workers by them.
    handle_segv: 0,
    handle_sigbus: 0,
    handle_abort: 0,
    // The channel's objects are in the library and in the backend, on purpose (docs/architecture.md).
    detect_odr_violation: 0,
    // Freed memory is held back for so long; tests that measure memory would count it.
    quarantine_size_mb: 4,
  };
  return {
    RTS_NGINX_PRELOAD: preload(),
    LUA_CPATH: `${LIBRARIES}/?.so;;`,
    ASAN_OPTIONS: Object.entries(asan)
      .map(([key, value]) => `${key}=${value}`)
      .join(":"),
    UBSAN_OPTIONS: `print_stacktrace=1:log_path=${path.join(REPORTS, "ubsan")}:suppressions=${inRoot("test/support/ubsan.supp")}`,
  };
}

/** Reads past the end of a block, by a function of ours: is it seen? */
const PLANTED = `
local ffi = require "ffi"
ffi.cdef "void *malloc(size_t); int rts_utf8_valid(const char *, size_t);"
local lib = ffi.load("${LIBRARIES}/libresty_ts.so")
local block = ffi.C.malloc(16)
ffi.fill(block, 16, 65)
lib.rts_utf8_valid(block, 64)
`;

function newReports() {
  return fs.readdirSync(REPORTS).map((name) => fs.readFileSync(path.join(REPORTS, name), "utf8"));
}

function emptyReports() {
  fs.rmSync(REPORTS, { recursive: true, force: true });
  fs.mkdirSync(REPORTS, { recursive: true });
  fs.chmodSync(REPORTS, 0o1777); // workers of any user write there
}

await script(async () => {
  const pattern = process.argv[2] ?? "";
  await build();
  await buildVariant("sanitized", {
    RTS_SANITIZE: "address,undefined",
    RTS_OUTPUT: LIBRARIES,
  });
  const libnode = inRoot("build/Release/libnode");
  if (fs.existsSync(libnode) && !fs.existsSync(path.join(LIBRARIES, "libnode"))) {
    fs.symlinkSync(libnode, path.join(LIBRARIES, "libnode"));
  }
  // As it is: Node runs it without our preload. What is C in it is in the backend, too.
  fs.copyFileSync(inRoot("build/Release/resty_ts.node"), path.join(LIBRARIES, "resty_ts.node"));
  const env = settings();
  emptyReports();
  capture("luajit", ["-e", PLANTED], {
    env: { ...process.env, ...env, LD_PRELOAD: env.RTS_NGINX_PRELOAD },
  });
  if (!newReports().some((text) => text.includes("heap-buffer-overflow"))) {
    throw new Failure("a read past the end of a block is not reported: the sanitizers do not work");
  }
  emptyReports();

  Object.assign(process.env, env);
  const files = filesBelow("test/integration", (name) => name.endsWith(".test.ts"));
  const picked = files.filter((name) => name.includes(pattern));
  if (picked.length === 0) throw new Failure(`no test below test/integration has ${pattern}`);
  const tally = new Tally();
  await runNodeTests(tally, "test/integration", picked, { concurrency: 1 });
  const reports = newReports();
  for (const text of reports) console.error(text);
  console.log(`\n${tally.passed} passed, ${tally.failed} failed; ${reports.length} reports`);
  if (tally.failed + reports.length > 0) process.exitCode = 1;
});
