import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "hello",
  responseHeaders: () => ({ "x-hello": `from TypeScript in Node ${process.versions.node}` }),
});
