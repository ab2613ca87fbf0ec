// One request field, and one response field where the response is known.
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "bench-filter",
  access(ctx) {
    ctx.request.headers.set("x-req", "1");
  },
  headerFilter(ctx) {
    ctx.response.headers.set("x-resp", "1");
  },
});
