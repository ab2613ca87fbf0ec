/**
 * Node's inspector, for a debugger on this machine.
 *
 * Thread: the environment's own. Invariant: it listens where it was told, or the log says why it does
 * not; plugins run on in any case.
 */
import inspector from "node:inspector";
import { messageOf } from "./describe.js";
import type { Logger } from "./log.js";

/** @param address of loopback, with its port: Lua has looked at it. */
export function openInspector(address: string, logger: Logger): void {
  const at = address.lastIndexOf(":");
  const host = address.slice(0, at).replace(/^\[(.*)\]$/, "$1");
  try {
    inspector.open(Number(address.slice(at + 1)), host);
  } catch (error) {
    logger.write("error", `the inspector does not listen on ${address}: ${messageOf(error)}`);
    return;
  }
  if (inspector.url() === undefined) {
    const text = "has another worker, or another program, taken the port?";
    logger.write("warn", `the inspector does not listen on ${address}: ${text}`);
    return;
  }
  logger.write("notice", `the inspector listens on ${address}`);
}
