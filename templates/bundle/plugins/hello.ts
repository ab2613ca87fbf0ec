import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "hello",
  headerFilter(ctx) {
    ctx.response.headers.set("x-hello", `from TypeScript in Node ${process.versions.node}`);
  },
});
