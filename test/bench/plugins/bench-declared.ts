// One request field, and one response field that follows from the configuration alone.
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "bench-declared",
  schema: Type.Object({ value: Type.String() }),
  responseHeaders: ({ value }) => ({ "x-resp": value }),
  access(ctx) {
    ctx.request.headers.set("x-req", "1");
  },
});
