/** Tells the client in X-Saw what it has seen of the request. */
import { definePlugin } from "resty-ts";
import type { Saw } from "../saw.ts";

export default definePlugin({
  name: "tells",
  access(ctx) {
    const { request } = ctx;
    const saw: Saw = {
      method: request.method,
      path: request.path,
      query: [...request.query],
      fields: [...request.headers],
      cookie: request.headers.get("cookie"),
    };
    ctx.local.set("saw", saw);
  },
  headerFilter(ctx) {
    const saw = JSON.stringify(ctx.local.get("saw"));
    ctx.response.headers.set("x-saw", Buffer.from(saw).toString("base64"));
  },
});
