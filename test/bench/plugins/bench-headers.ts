// One response field, where the response is known.
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "bench-headers",
  headerFilter(ctx) {
    ctx.response.headers.set("x-resp", "1");
  },
});
