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

export class Batches {
  readonly #options: BatchOptions;
  #waiting: object[] = [];
  #dropped = 0;
  #timer: NodeJS.Timeout | undefined;
  #sending: Promise<void> | undefined;
  #wake: (() => void) | undefined;
  #closing = false;

  constructor(options: BatchOptions) {
    this.#options = options;
  }

  add(entry: object): void {
    const { batchSize, intervalMs, maxWaiting } = this.#options;
    if (this.#waiting.length >= maxWaiting) {
      this.#waiting.shift();
      this.#dropped++;
    }
    this.#waiting.push(entry);
    if (this.#waiting.length >= batchSize) this.#start();
    else this.#timer ??= setTimeout(() => this.#start(), intervalMs);
  }

  /** Sends what is there, without the pauses between retries. */
  async close(): Promise<void> {
    this.#closing = true;
    this.#wake?.();
    this.#start();
    await this.#sending;
  }

  #start(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#sending ??= this.#run().finally(() => {
      this.#sending = undefined;
    });
  }

  async #run(): Promise<void> {
    const { batchSize, warn } = this.#options;
    while (this.#waiting.length > 0) {
      await this.#deliver(this.#waiting.splice(0, batchSize));
      if (this.#dropped > 0) warn(`${this.#dropped} entries were dropped: the buffer was full`);
      this.#dropped = 0;
    }
  }

  async #deliver(batch: readonly object[]): Promise<void> {
    const { retries, backoffMs, send, warn } = this.#options;
    for (let attempt = 0; ; attempt++) {
      try {
        await send(batch);
        return;
      } catch (error) {
        if (attempt >= retries) {
          warn(`${batch.length} entries are lost after ${attempt + 1} attempts: ${String(error)}`);
          return;
        }
        // Half of it by chance, so that many workers do not come back at once.
        await this.#pause(backoffMs * 2 ** attempt * (0.5 + Math.random() / 2));
      }
    }
  }

  #pause(ms: number): Promise<void> {
    if (this.#closing) return Promise.resolve();
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
