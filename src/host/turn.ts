/**
 * How long the host's own work keeps libuv's loop in one turn: timers, sockets and promises of all
 * plugins wait for it.
 *
 * Thread: the environment's own. Invariant: work that was put off runs in the order in which it was
 * put off.
 */

/** One turn lasts between half of this and all of it: the clock counts whole milliseconds. */
const MOST_MS = 2;

export class Turn {
  #began = 0;
  #later: (() => void)[] = [];
  #next = 0;
  readonly #resume = (): void => {
    this.begin();
    const later = this.#later;
    while (this.#next < later.length && !this.isOver) later[this.#next++]!();
    if (this.#next < later.length) {
      setImmediate(this.#resume);
    } else {
      this.#later = [];
      this.#next = 0;
    }
  };

  begin(): void {
    this.#began = Date.now();
  }

  /** When it began, ms since the epoch. */
  get began(): number {
    return this.#began;
  }

  /** Whether more work is to wait for a later turn. */
  get isOver(): boolean {
    // The clock may be set back.
    return Math.abs(Date.now() - this.#began) >= MOST_MS;
  }

  /** Has `work` run in a later turn. */
  putOff(work: () => void): void {
    if (this.#later.push(work) === 1) setImmediate(this.#resume);
  }

  /** @returns what to wait for before more work is done, if this turn is over. */
  pause(): Promise<void> | undefined {
    return this.isOver
      ? new Promise((resolve) => {
          this.putOff(resolve);
        })
      : undefined;
  }
}
