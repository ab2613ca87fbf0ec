/**
 * A time limit for code of authors that others wait for: a promise of theirs may never settle.
 *
 * Thread: the environment's own.
 */
import { RestyTsError } from "../sdk/errors.js";

/** Unless ts.start's start_timeout_ms says otherwise. */
export const SETTLE_MS = 10_000;

/**
 * @param what for the message: "setup", say.
 * @param late gets the work that goes on after the limit: what comes of it is to be undone, or reported.
 * @throws what `begin` throws, {RestyTsError} "handler_failed" at the limit.
 */
export async function settleWithin<T>(
  what: string,
  ms: number,
  begin: () => T | PromiseLike<T>,
  late: (work: Promise<T>) => void,
): Promise<T> {
  const work = (async () => begin())();
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      late(work);
      reject(new RestyTsError("handler_failed", `${what} did not settle within ${ms} ms`));
    }, ms);
  });
  try {
    return await Promise.race([work, limit]);
  } finally {
    clearTimeout(timer);
  }
}
