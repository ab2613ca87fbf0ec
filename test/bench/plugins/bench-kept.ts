// One request field and one response field, in one phase: what the response does not decide is
// said before there is one.
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "bench-kept",
  access(ctx) {
    ctx.request.headers.set("x-req", "1");
    ctx.response.headers.set("x-resp", "1");
  },
});
