// How programs for another processor are run here.
import { readFileSync } from "node:fs";

/**
 * qemu, on one CPU. On several it does not keep the order of a store-release and a load-acquire after it (STLR, LDAR), which
 * arm64 does and a sleeping flag relies on: each is a plain access on x64, whose store comes late. With qemu 7.2
 * wake-ups were lost now and then.
 * @param {string} processor such as aarch64 @param {string[]} options qemu's @returns {[string, ...string[]]}
 */
export function emulator(processor, options) {
  const status = readFileSync("/proc/self/status", "utf8");
  const cpu = /^Cpus_allowed_list:\s*(\d+)/m.exec(status)?.[1] ?? "0";
  return ["taskset", "-c", cpu, `qemu-${processor}`, ...options];
}
