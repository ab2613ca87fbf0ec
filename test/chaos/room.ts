/** A folder that can be full: a small tmpfs, which needs root. Elsewhere there is none. */
import { execFileSync } from "node:child_process";
import { rmdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makeFolder } from "../support/project.js";

const BYTES = 65_536;
const INODES = 64;

export interface Room {
  readonly path: string;
  /** Takes all of its bytes and files. */
  fill(): void;
  empty(): void;
  remove(): void;
}

function untilFull(write: (i: number) => void): number {
  for (let i = 0; ; i++) {
    try {
      write(i);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOSPC") return i;
      throw error;
    }
  }
}

export function makeRoom(): Room | undefined {
  const path = makeFolder("room");
  try {
    const options = `size=${BYTES},nr_inodes=${INODES},mode=1777`;
    execFileSync("mount", ["-t", "tmpfs", "-o", options, "none", path], { stdio: "ignore" });
  } catch {
    rmdirSync(path);
    return undefined;
  }
  const large = join(path, "large");
  let small = 0;
  return {
    path,
    fill() {
      untilFull((i) => writeFileSync(large, "x".repeat(4096), { flag: i === 0 ? "w" : "a" }));
      small = untilFull((i) => writeFileSync(join(path, `small-${i}`), ""));
    },
    empty() {
      rmSync(large, { force: true });
      for (let i = 0; i < small; i++) rmSync(join(path, `small-${i}`));
      small = 0;
    },
    remove() {
      execFileSync("umount", [path]);
      rmdirSync(path);
    },
  };
}
