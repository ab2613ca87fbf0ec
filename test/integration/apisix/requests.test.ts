/** What APISIX does with a request beyond its phases: other nodes, consumers, responses that go. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { withTypescript } from "../../support/apisix-plugins.js";
import type { Seen } from "../../support/gateway.js";
import { findPort } from "../../support/nginx.js";

describe("a request that goes to another node", () => {
  it("has gone through beforeProxy once", () =>
    withTypescript(
      {
        typescript: {
          proxied: `
            export default definePlugin({
              name: "proxied",
              async beforeProxy(ctx) {
                await ctx.var.get("route_id");
                ctx.request.headers.append("x-proxied", "once");
              },
            });`,
        },
        allowLog: [/connect\(\) failed/],
      },
      async (a) => {
        const nodes = {
          [`127.0.0.1:${String(await findPort())}`]: 1,
          [`127.0.0.1:${String(a.upstream.port)}`]: 1,
        };
        const upstream = { type: "roundrobin", nodes };
        await a.change({ routes: [{ uri: "/a", plugins: { proxied: {} }, upstream }] });
        // The nodes take turns: half of these go to the one where nobody is first.
        for (let i = 0; i < 4; i++) {
          const reply = await a.ask("/a");
          assert.equal(reply.status, 200, reply.text);
          assert.equal(reply.json<Seen>().headers["x-proxied"], "once");
        }
        assert.match(a.errorLog(), /connect\(\) failed/);
      },
    ));
});
