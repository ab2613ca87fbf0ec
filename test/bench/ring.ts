// Figures without nginx: the API in plain LuaJIT (ring.lua), and the rings alone in C.
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";

import { BENCH_DIR, PROJECT_DIR } from "./support.ts";

const TIMEOUT_MS = 120_000;
const NATIVE = join(PROJECT_DIR, "build", "Release", "ring_bench");

export interface RingRow {
  readonly name: string;
  readonly us: number;
}

async function linesOf(command: string, args: readonly string[]): Promise<RingRow[]> {
  const { stdout } = await promisify(execFile)(command, [...args], { timeout: TIMEOUT_MS });
  const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
  return lines.map((line) => JSON.parse(line) as RingRow);
}

/** Each source's figures; a source that is not built has none. */
export async function measureRings(): Promise<RingRow[]> {
  const native = existsSync(NATIVE) ? await linesOf(NATIVE, []) : [];
  const api = await linesOf("luajit", [join(BENCH_DIR, "ring.lua"), PROJECT_DIR]);
  return [...native, ...api];
}
