/**
 * Sends entries to a collector in batches: bounded, in order, with retries that back off. What does
 * not fit is dropped, the oldest first, and counted.
 */
export interface BatchOptions {
  readonly batchSize: number;
  readonly intervalMs: number;
  readonly maxWaiting: number;
  readonly retries: number;
  readonly backoffMs: number;
  /** @throws whatever makes the batch be sent again. */
  readonly send: (entries: readonly object[]) => Promise<void>;
  readonly warn: (text: string) => void;
}

/** Once there is no time any more: attempts at most, and the pause between them. */
const LAST_ATTEMPTS = 5;
const LAST_PAUSE_MS = 50;
const MOST_PAUSE_MS = 30_000;

export class Batches {
  readonly #options: BatchOptions;
  #waiting: object[] = [];
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  /** What waits goes, a full batch or not. */
  #due = false;
  #closing = false;
  #wake: (() => void) | undefined;

  constructor(options: BatchOptions) {
    this.#options = options;
  }

  add(entry: object): void {
    if (this.#waiting.length >= this.#options.maxWaiting) {
      this.#waiting.shift();
      if (this.#dropped++ === 0) this.#options.warn("the buffer is full: entries are dropped");
    }
    this.#waiting.push(entry);
    this.#start();
  }

  /** Sends what is there, in a few attempts that follow each other at once. */
  async close(): Promise<void> {
    this.#closing = this.#due = true;
    this.#wake?.();
    this.#start();
    while (this.#sending !== undefined) await this.#sending;
    clearTimeout(this.#timer);
  }

  #isReady(): boolean {
    return this.#waiting.length >= (this.#due ? 1 : this.#options.batchSize);
  }

  /** Sends if there is a batch and none is on its way; else sees to it that it is sent in time. */
  #start(): void {
    if (this.#sending !== undefined) return;
    if (this.#isReady()) {
      this.#sending = this.#run().finally(() => {
        this.#sending = undefined;
        this.#start();
      });
    } else if (this.#waiting.length > 0) {
      this.#timer ??= setTimeout(() => {
        this.#timer = undefined;
        this.#due = true;
        this.#start();
      }, this.#options.intervalMs);
    }
  }

  async #run(): Promise<void> {
    const { batchSize, warn } = this.#options;
    while (this.#isReady()) {
      await this.#deliver(this.#waiting.splice(0, batchSize));
      if (this.#dropped > 0) warn(`${this.#dropped} entries were dropped`);
      this.#dropped = 0;
    }
    this.#due = this.#closing;
  }

  async #deliver(batch: readonly object[]): Promise<void> {
    const { retries, backoffMs, send, warn } = this.#options;
    for (let attempt = 0, last = 0; ; attempt++) {
      try {
        await send(batch);
        return;
      } catch (error) {
        if (this.#closing) last++;
        if (attempt >= retries || last >= LAST_ATTEMPTS) {
          warn(`${batch.length} entries are lost after ${attempt + 1} attempts: ${String(error)}`);
          return;
        }
        // Half of it by chance, so that many workers do not come back at once.
        const pauseMs = Math.min(backoffMs * 2 ** attempt, MOST_PAUSE_MS);
        await this.#pause(pauseMs * (0.5 + Math.random() / 2));
      }
    }
  }

  async #pause(ms: number): Promise<void> {
    if (!this.#closing) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, ms);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    } else {
      await new Promise((resolve) => setTimeout(resolve, Math.min(ms, LAST_PAUSE_MS)));
    }
  }
}
