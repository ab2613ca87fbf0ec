/** The Nodes of each major that host processes are tried with. */
import { MAJORS, nodes } from "../../scripts/lib/nodes.mjs";

/** One of more than 100 MB that was not read before comes from a disk that may be slow. */
export const NODE_START_MS = 60_000;

interface OneNode {
  readonly major: number;
  /** Its executable; "": it is not there. */
  readonly node: string;
  /** For node:test's option. */
  readonly skip: string | false;
}

export const NODES: readonly OneNode[] = MAJORS.map((major) => {
  const node = nodes().get(major) ?? "";
  return { major, node, skip: node === "" && `there is no .deps/nodes/${String(major)}` };
});
