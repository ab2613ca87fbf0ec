/** Hands the request on by fetch. */
import { definePlugin, type RequestContext, Type } from "resty-ts";

/** Why signals of this environment's requests have aborted. */
const aborted: string[] = [];

const hows: Record<string, (ctx: RequestContext, url: string) => unknown> = {
  forward: ({ request }, url) => fetch(new Request(url, request.toRequest())),
  // Once more, and with a body that an other has read.
  again: async ({ request }, url) => {
    await request.bytes();
    await request.toRequest().text();
    return fetch(new Request(url, request.toRequest()));
  },
  replaced: ({ request }, url) => {
    request.setBody("r\u00e9placed");
    return fetch(new Request(url, request.toRequest()));
  },
  emptied: ({ request }, url) => {
    request.setBody("");
    return fetch(new Request(url, request.toRequest()));
  },
  // Until its signal aborts.
  waits: async ({ request, signal }, url) => {
    const relayed = new Request(url, request.toRequest());
    relayed.signal.addEventListener("abort", () => {
      const { name } = relayed.signal.reason as Error;
      aborted.push(`${name} ${String(relayed.signal.reason === signal.reason)}`);
    });
    return fetch(relayed);
  },
  aborted: (ctx) => ctx.exit(200, aborted),
};

export default definePlugin({
  name: "relays",
  schema: Type.Object({ origin: Type.String() }),
  phases: { access: { timeoutMs: 1500 } },
  access(ctx, { conf }) {
    const { uri } = ctx.request;
    return hows[uri.split("/")[1]!]!(ctx, conf.origin + uri) as Promise<Response>;
  },
});
