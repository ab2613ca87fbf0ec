/**
 * Deadlines that pass when a test says so: timers of HELD_MS and a few ms more do not run by the
 * clock, but when `passDeadline` is called. So a handler that is late is late at once, and no other
 * ever is, however busy the machine.
 *
 * One for the whole environment, however many bundles have a copy of this file.
 */
export const HELD_MS = 7_000_000;
const RANGE_MS = 1_000;

interface Held {
  readonly ms: number;
  readonly run: () => void;
}

class HeldTimers {
  readonly #held = new Set<Held>();

  constructor() {
    const { setTimeout: real, clearTimeout: clear } = globalThis;
    const hold = (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]): unknown => {
      // What is left of a deadline when it is set may be some ms less.
      if (ms < HELD_MS - RANGE_MS || ms > HELD_MS + 2 * RANGE_MS) return real(run, ms, ...args);
      const held = { ms, run: () => run(...args), ref: () => held, unref: () => held };
      this.#held.add(held);
      return held;
    };
    globalThis.setTimeout = Object.assign(hold, real);
    globalThis.clearTimeout = (timer) => {
      const held = timer as unknown as Held;
      if (this.#held.has(held)) this.#held.delete(held);
      else clear(timer);
    };
  }

  pass(): void {
    const [first] = [...this.#held].sort((a, b) => a.ms - b.ms);
    if (first === undefined) return;
    this.#held.delete(first);
    first.run();
  }
}

const KEY = Symbol.for("resty-ts test: held timers");
const timers = (Reflect.get(globalThis, KEY) as HeldTimers | undefined) ?? new HeldTimers();
Reflect.set(globalThis, KEY, timers);

/** The held timer that is due first runs now. */
export function passDeadline(): void {
  timers.pass();
}
