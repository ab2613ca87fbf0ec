/** Waits until its signal aborts, and logs why. */
import { definePlugin, Type } from "resty-ts";

export default definePlugin({
  name: "slow",
  schema: Type.Object({ phase: Type.String() }),
  phases: { rewrite: { timeoutMs: 30 }, access: { timeoutMs: 30 }, beforeProxy: { timeoutMs: 30 } },
  async rewrite(ctx, { conf }) {
    if (conf.phase === "rewrite") await never(ctx.signal);
  },
  async access(ctx, { conf }) {
    if (conf.phase === "access") await never(ctx.signal);
  },
  async beforeProxy(ctx, { conf }) {
    if (conf.phase === "beforeProxy") await never(ctx.signal);
  },
});

function never(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    signal.addEventListener("abort", () => resolve());
  });
}
