/**
 * libresty_ts.so for musl: built by musl-gcc, and loaded by a program that runs on musl. The addon and
 * the backends are C++, for which Debian has no such compiler: a release builds them on Alpine.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { readElf } from "../../scripts/lib/elf.mjs";
import { muslDefines } from "../../scripts/lib/toolchains.mjs";
import { makeFolder, PROJECT_ROOT } from "../support/project.js";

const scratch = makeFolder("musl");
const library = path.join(scratch, "libresty_ts.so");

/** Makes a channel by the library that it is given, and prints its version. */
const PROGRAM = `#include <dlfcn.h>
#include <stdio.h>
#include "resty_ts.h"
int main(int argc, char **argv) {
    void *handle = argc == 2 ? dlopen(argv[1], RTLD_NOW) : NULL;
    if (handle == NULL) return puts(dlerror()), 1;
    const char *(*version)(void) = (const char *(*)(void)) dlsym(handle, "rts_version");
    int (*create)(uint32_t, uint32_t, rts_channel_t **, char *, size_t *) = (int (*)(
        uint32_t, uint32_t, rts_channel_t **, char *, size_t *)) dlsym(handle, "rts_channel_create");
    rts_channel_t *channel = NULL;
    printf("%s %d\\n", version(), create(65536, 0, &channel, NULL, NULL));
    return 0;
}`;

function run(command: string, args: string[]): string {
  return execFileSync(command, args, { cwd: scratch, encoding: "utf8" });
}

describe("libresty_ts.so for musl", { timeout: 120_000 }, () => {
  before(() => {
    const options = {
      ...muslDefines(path.join(scratch, "kernel-headers")),
      CMAKE_BUILD_TYPE: "Release",
      RTS_BACKEND: "OFF",
      RTS_OUTPUT: scratch,
      RTS_PREBUILT: "ON",
      RTS_WERROR: "ON",
    };
    const defines = Object.entries(options).map(([name, value]) => `-D${name}=${value}`);
    run("cmake", ["-G", "Unix Makefiles", "-S", PROJECT_ROOT, "-B", "build", ...defines]);
    run("cmake", ["--build", "build", "--target", "resty_ts"]);
  });
  after(() => {
    rmSync(scratch, { recursive: true });
  });

  it("needs musl's libc, and nothing of glibc's", () => {
    const { glibc, needed } = readElf(library);
    assert.equal(glibc, undefined);
    assert.deepEqual(needed, ["libc.so"]);
  });

  it("loads in a program that runs on musl, and makes a channel", () => {
    writeFileSync(path.join(scratch, "program.c"), PROGRAM);
    const include = path.join(PROJECT_ROOT, "native/include");
    run("musl-gcc", ["-I", include, "-o", "program", "program.c"]);
    const { version } = JSON.parse(
      readFileSync(path.join(PROJECT_ROOT, "package.json"), "utf8"),
    ) as { version: string };
    assert.equal(run("./program", [library]), `${version} 0\n`);
  });
});
