/**
 * Questions to Lua at any time (docs/http-protocol.md): sent in an ASK record, those of one turn
 * together; answered by the notification `reply`.
 *
 * Thread: the environment's own. Invariant: each question is answered once; what is still open when
 * the environment ends goes with it.
 */
import { type Question, type Reply, settle } from "../http/questions.js";
import type { Channel } from "./channel.js";
import { encode } from "./codec.js";
import { Kind } from "./wire.js";

export class Questions {
  readonly #channel: Channel;
  readonly #asked = new Map<number, Question[]>();
  #next: Question[] = [];
  #count = 0;

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** @returns the reply's values. */
  ask(words: unknown[]): Promise<unknown[]> {
    return new Promise((resolve, reject) => {
      this.#next.push({ words, resolve, reject });
      if (this.#next.length === 1) queueMicrotask(() => this.#send());
    });
  }

  /** Whoever waits for one of them goes on before the next is told. */
  async reply(id: number, replies: readonly Reply[]): Promise<void> {
    const asked = this.#asked.get(id) ?? [];
    this.#asked.delete(id);
    for (const [i, question] of asked.entries()) {
      settle(question, replies[i]);
      await this.#channel.turn.pause();
    }
  }

  #send(): void {
    const asked = this.#next;
    this.#next = [];
    try {
      const payload = encode(asked.map(({ words }) => words));
      this.#count = (this.#count + 1) >>> 0;
      this.#asked.set(this.#count, asked);
      this.#channel.send(Kind.ask, 0, this.#count, payload);
    } catch (error) {
      for (const { reject } of asked) reject(error);
    }
  }
}
