// A body filter that reads each piece, and changes those that have the secret.
import { definePlugin } from "resty-ts";

const SECRET = "hunter2";
const MASK = "*".repeat(SECRET.length);

export default definePlugin({
  name: "bench-body",
  bodyFilter({ chunk }) {
    const piece = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    return piece.includes(SECRET) ? piece.toString().replaceAll(SECRET, MASK) : undefined;
  },
});
