// Answers with a stream that is made as it is sent.
import { definePlugin, Type } from "resty-ts";

const PIECE_BYTES = 16 * 1024;

export default definePlugin({
  name: "bench-stream",
  schema: Type.Object({ bytes: Type.Integer() }),
  setup: ({ bytes }) => new Uint8Array(bytes).fill("x".charCodeAt(0)),
  content(_ctx, { state: body }) {
    let at = 0;
    return new Response(
      new ReadableStream<Uint8Array>({
        pull(controller) {
          controller.enqueue(body.subarray(at, (at += PIECE_BYTES)));
          if (at >= body.length) controller.close();
        },
      }),
    );
  },
});
