/** One of a chain: adds its name to X-Order in each phase that has one. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "mark-1",
  priority: 10,
  access({ request }) {
    request.headers.append("X-Order", "mark-1");
  },
  headerFilter({ response }) {
    response.headers.append("X-Order", "mark-1");
  },
  bodyFilter: (ctx) => `${Buffer.from(ctx.chunk).toString()}${ctx.last ? "1" : ""}`,
});
