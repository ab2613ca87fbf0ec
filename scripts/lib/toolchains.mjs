// What CMake is told to build for another machine, or for another libc, with the compilers that Debian has for that.
import { mkdirSync, rmSync, symlinkSync } from "node:fs";
import path from "node:path";
import { capture } from "./run.mjs";

/** @param {import("./platform.mjs").Cross} cross */
export function crossDefines({ processor, triplet }) {
  return {
    CMAKE_SYSTEM_NAME: "Linux",
    CMAKE_SYSTEM_PROCESSOR: processor,
    CMAKE_C_COMPILER: `${triplet}-gcc`,
    CMAKE_CXX_COMPILER: `${triplet}-g++`,
  };
}

/**
 * musl-gcc finds no header but musl's own; the kernel's, which are no libc's, are linked into a folder for it. It has no C++.
 * @param {string} folder is made anew
 */
export function muslDefines(folder) {
  const multiarch = capture("gcc", ["-print-multiarch"]).stdout.trim();
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const name of ["linux", "asm-generic", `${multiarch}/asm`])
    symlinkSync(path.join("/usr/include", name), path.join(folder, path.basename(name)));
  return { CMAKE_C_COMPILER: "musl-gcc", CMAKE_C_FLAGS: `-isystem ${folder}` };
}
