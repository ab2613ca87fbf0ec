// The name of a machine's kind, as folders of prebuilds/ have it. lua/resty/ts/native.lua has the same rule.
import os from "node:os";

/** Does node itself run on musl? Its report says so, without a child process. */
function isMusl() {
  const report = /** @type {{ header: { glibcVersionRuntime?: string } }} */ (
    process.report.getReport()
  );
  return report.header.glibcVersionRuntime === undefined;
}

/** linux-x64, linux-arm64, linux-x64-musl */
export const platform = `${os.platform()}-${os.arch()}${isMusl() ? "-musl" : ""}`;
