/**
 * The embedded host as a guest of nginx's process: says what native/runtime/guard.c withholds from JavaScript.
 *
 * Thread: the environment's own.
 */
import { constants } from "node:os";
import type { Logger } from "./log.js";

export function beGuest(logger: Logger): void {
  let warned = false;
  process.on("newListener", (name: string | symbol) => {
    // Node's own child processes need SIGCHLD: listeners for that are called.
    if (warned || typeof name !== "string" || name === "SIGCHLD" || !(name in constants.signals)) {
      return;
    }
    warned = true;
    logger.write(
      "warn",
      `process.on("${name}") does nothing: signals are nginx's (a plugin's teardown runs at the end)`,
    );
  });
  const kill = process.kill.bind(process);
  process.kill = (pid, signal): true => {
    try {
      return kill(pid, signal);
    } catch (error) {
      if (pid === process.pid && (error as NodeJS.ErrnoException).code === "EPERM") {
        (error as Error).message += ": the process is nginx's (process.exit ends the environment)";
      }
      throw error;
    }
  };
}
