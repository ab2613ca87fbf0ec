/** What tests of root file systems share. */
import { spawnSync } from "node:child_process";

/** Arguments of node, for a user who is not root as far as the program can see. */
export const AS_USER = ["--import", "data:text/javascript,process.getuid = () => 1000"];

/** The `skip` option of a test that needs namespaces, which are more than root of a container may have. */
export function noNamespaces(): string | false {
  if (process.getuid?.() !== 0) return "not root";
  const args = ["--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"];
  const probe = spawnSync("unshare", args, { encoding: "utf8" });
  return probe.status === 0 ? false : `no namespaces here: ${probe.stderr.trim()}`;
}
