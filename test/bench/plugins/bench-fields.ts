// The fields case as a plugin: five request fields are read, two response fields are written.
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "bench-fields",
  access(ctx) {
    const { headers } = ctx.request;
    const client = `${headers.get("x-forwarded-for")} ${headers.get("accept-language")}`;
    const trace = `${headers.get("x-request-id")}/${headers.get("x-user-id")}/${headers.get("user-agent")}`;
    ctx.response.headers.set("x-client", client);
    ctx.response.headers.set("x-trace", trace);
  },
});
