/** One of a chain: adds its name to X-Order in each phase that has one. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "mark-3",
  priority: 30,
  access({ request }) {
    request.headers.append("X-Order", "mark-3");
  },
  headerFilter({ response }) {
    response.headers.append("X-Order", "mark-3");
  },
  bodyFilter: (ctx) => `${Buffer.from(ctx.chunk).toString()}${ctx.last ? "3" : ""}`,
});
