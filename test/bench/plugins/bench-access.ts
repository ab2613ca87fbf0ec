// One request field.
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "bench-access",
  access(ctx) {
    ctx.request.headers.set("x-req", "1");
  },
});
