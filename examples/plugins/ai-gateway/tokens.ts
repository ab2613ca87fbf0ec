/** Counts the tokens of a chat completion, as its stream of server-sent events goes by. */

interface Chunk {
  readonly choices?: readonly { readonly delta?: { readonly content?: string | null } }[];
  readonly usage?: { readonly total_tokens?: number } | null;
}

export class TokenCounter {
  readonly #decoder = new TextDecoder();
  #rest = "";
  #pieces = 0;
  #reported: number | undefined;

  /** What the model says it took, else one for each piece of text that came. */
  get tokens(): number {
    return this.#reported ?? this.#pieces;
  }

  push(bytes: Uint8Array): void {
    const lines = (this.#rest + this.#decoder.decode(bytes, { stream: true })).split("\n");
    this.#rest = lines.pop()!;
    for (const line of lines) {
      if (line.startsWith("data:")) this.#count(line.slice(5).trim());
    }
  }

  /** An answer that is no stream. */
  pushWhole(body: Uint8Array): void {
    this.#count(new TextDecoder().decode(body));
  }

  #count(data: string): void {
    if (data === "" || data === "[DONE]") return;
    let chunk: Chunk;
    try {
      chunk = JSON.parse(data) as Chunk;
    } catch {
      return; // not ours to judge: the client gets it as it is
    }
    this.#reported = chunk.usage?.total_tokens ?? this.#reported;
    if (chunk.choices?.some(({ delta }) => delta?.content)) this.#pieces++;
  }
}

/** The same bytes; `done` is called once, when they end, break off or nobody wants them any more. */
export function watch(
  body: ReadableStream<Uint8Array>,
  onBytes: (bytes: Uint8Array) => void,
  done: () => void,
): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  let over = false;
  const end = (): void => {
    if (!over) done();
    over = true;
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const { done: last, value } = await reader.read();
          if (last) {
            end();
            controller.close();
          } else {
            onBytes(value);
            controller.enqueue(value);
          }
        } catch (error) {
          end();
          throw error;
        }
      },
      async cancel(reason) {
        end();
        await reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
