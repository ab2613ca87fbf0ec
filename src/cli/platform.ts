/**
 * The name of a machine's kind, as folders of prebuilds/ have it: scripts/lib/platform.mjs and
 * lua/resty/ts/native.lua have the same rule.
 */
import { arch, platform as system } from "node:os";

/** Node's report says what it runs on, without a child process. */
function isMusl(): boolean {
  const report = process.report.getReport() as unknown as {
    header: { glibcVersionRuntime?: string };
  };
  return report.header.glibcVersionRuntime === undefined;
}

/** linux-x64, linux-arm64, linux-x64-musl */
export const platform = `${system()}-${arch()}${isMusl() ? "-musl" : ""}`;
