/**
 * From the exchange to the client: collects pieces, or hands each over when the client asks for it.
 *
 * Invariant: in the second case no piece is accepted while the one before is not taken, so a
 * handler's stream is held back as it is by a slow client.
 */

export class Pipe {
  readonly pieces: Uint8Array[] = [];
  /** The client has left. */
  gone = false;
  onLeave: (() => void) | undefined = undefined;
  readonly #collect: boolean;
  #taken = 0;
  #ended = false;
  #wakeWriter: (() => void) | undefined;
  #wakeReader: (() => void) | undefined;

  constructor(collect: boolean) {
    this.#collect = collect;
  }

  /** @returns whether the client is still there. */
  async write(piece: Uint8Array): Promise<boolean> {
    if (this.gone) return false;
    if (piece.length === 0) return true;
    this.pieces.push(piece);
    this.#wakeReader?.();
    if (!this.#collect) {
      await new Promise<void>((resolve) => (this.#wakeWriter = resolve));
    }
    return !this.gone;
  }

  end(): void {
    this.#ended = true;
    this.#wakeReader?.();
  }

  leave(): void {
    this.gone = true;
    this.#wakeWriter?.();
    this.#wakeReader?.();
    this.onLeave?.();
  }

  async *read(): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for (;;) {
        const piece = this.pieces[this.#taken];
        if (piece !== undefined) {
          this.#taken++;
          yield piece;
          this.#wakeWriter?.();
        } else if (this.#ended || this.gone) return;
        else await new Promise<void>((resolve) => (this.#wakeReader = resolve));
      }
    } finally {
      if (!this.#ended) this.leave();
    }
  }
}
