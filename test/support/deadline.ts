/**
 * Waiting in tests: ask again and again until something holds, never sleep and hope.
 * A deadline is a bound for a broken run, so it is generous; it does not measure anything.
 */

const STEP_MS = 5;

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/**
 * Resolves with the first value of `probe` that is neither false, null nor undefined.
 * Rejects after `deadlineMs` with a message that names `what`, and `details()` if given.
 */
export async function until<T>(
  what: string,
  probe: () => T | Promise<T>,
  deadlineMs = 10_000,
  details?: () => string,
): Promise<Exclude<T, false | null | undefined>> {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await probe();
    if (value !== false && value !== null && value !== undefined) {
      return value as Exclude<T, false | null | undefined>;
    }
    if (Date.now() > end) {
      const more = details ? `\n${details()}` : "";
      throw new Error(`not within ${String(deadlineMs)} ms: ${what}${more}`);
    }
    await sleep(STEP_MS);
  }
}

/** `promise`, or an error that names `what` after `deadlineMs`. The promise itself goes on. */
export async function within<T>(
  what: string,
  promise: Promise<T>,
  deadlineMs = 10_000,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`not within ${String(deadlineMs)} ms: ${what}`));
    }, deadlineMs);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs `body` one time after the other until `done` has settled; says how often it ran. */
export async function repeatUntil(
  done: Promise<unknown>,
  body: () => Promise<void>,
): Promise<number> {
  const state = { busy: true };
  const settled = (): void => {
    state.busy = false;
  };
  done.then(settled, settled);
  let times = 0;
  while (state.busy) {
    await body();
    times++;
  }
  return times;
}
