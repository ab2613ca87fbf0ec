/** One of a chain: adds its name to X-Order in each phase that has one. */
import { definePlugin } from "resty-ts";

export default definePlugin({
  name: "mark-2",
  priority: 20,
  access({ request }) {
    request.headers.append("X-Order", "mark-2");
  },
  headerFilter({ response }) {
    response.headers.append("X-Order", "mark-2");
  },
  bodyFilter: (ctx) => `${Buffer.from(ctx.chunk).toString()}${ctx.last ? "2" : ""}`,
});
