/** A body filter that must see the whole body, or nobody does. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "redacts",
  bufferResponse: { maxBytes: 4096 },
  policies: { onError: "closed", onTimeout: "closed", onOverload: "closed" },
  bodyFilter: (ctx) => Buffer.from(ctx.chunk).toString().replaceAll("secret", "******"),
});
