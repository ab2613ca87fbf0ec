/** Returns, or puts into ctx.ctx, what it may not. */
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "refuses",
  schema: Type.Object({ action: Type.String() }),
  access(ctx, { conf }) {
    if (conf.action === "number") return 42 as never;
    if (conf.action === "function") ctx.ctx["f"] = () => undefined;
    if (conf.action === "date") ctx.ctx["d"] = new Date(0);
    return undefined;
  },
  headerFilter(_ctx, { conf }) {
    return (conf.action === "promise" ? Promise.resolve() : undefined) as undefined;
  },
});
