/** Tells the upstream in X-Looks how the request is after the plugins before it, and Lua. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "looks",
  priority: -10,
  async access({ request }) {
    const { method, uri, path } = request;
    const body = await request.bytes();
    const seen = [method, uri, path, request.headers.get("x-b"), body.length];
    request.headers.set("X-Looks", JSON.stringify(seen).replace(/[^ -~]/g, "?"));
  },
});
