/** examples/plugins/ab-upstream.ts: between real upstreams, by name and by address. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { describeGateway, Upstream } from "../../support/gateway.js";

const servers = { old: await Upstream.start("old"), new: await Upstream.start("new") };
after(() => Promise.all(Object.values(servers).map((server) => server.stop())));

const choose = (conf: string): string => `
  set $ab_upstream "";
  access_by_lua_block { require("resty.ts.http").access("ab-upstream", ${conf}) }
  log_by_lua_block { ngx.log(ngx.NOTICE, "variant ", ngx.ctx.ab_variant) }`;
const named = (weights: [number, number]): string => `{ hashHeader = "x-user", variants = {
  { name = "old", weight = ${weights[0]}, upstream = "old" },
  { name = "new", weight = ${weights[1]}, upstream = "new" } } }`;
const byAddress = (port: number, name: string): string =>
  `{ name = "${name}", host = "127.0.0.1", port = ${port} }`;

describeGateway(
  "ab-upstream",
  () => ({
    http: () => `
      upstream old { server 127.0.0.1:${servers.old.port}; }
      upstream new { server 127.0.0.1:${servers.new.port}; }
      upstream variants {
        server 0.0.0.1;
        balancer_by_lua_block { require("resty.ts.http").balancer() }
      }`,
    locations: () => ({
      "/half": `${choose(named([1, 1]))} proxy_pass http://$ab_upstream;`,
      "/most": `${choose(named([9, 1]))} proxy_pass http://$ab_upstream;`,
      "/none": `${choose(named([0, 1]))} proxy_pass http://$ab_upstream;`,
      "/address": `${choose(
        `{ hashHeader = "x-user", cookie = "way", variants = {
          ${byAddress(servers.old.port, "old")}, ${byAddress(servers.new.port, "new")} } }`,
      )} proxy_pass http://variants;`,
      "/odd": `${choose(`{ variants = { { name = "x" } } }`)} proxy_pass http://$ab_upstream;`,
    }),
    allowLog: [/wants one of upstream and host/],
  }),
  (gateway, client) => {
    interface Answer {
      server: "old" | "new";
      headers: Record<string, string>;
    }
    const share = async (path: string, count: number): Promise<number> => {
      let old = 0;
      for (let i = 0; i < count; i++) {
        const reply = await client.ask(path, { headers: { "x-user": `user ${i}` } });
        if (reply.json<Answer>().server === "old") old++;
      }
      return old / count;
    };

    test("a client keeps its variant, with its cookie and without", async () => {
      const headers = { "x-user": "ada" };
      const first = await client.ask("/half", { headers });
      const { server, headers: seen } = first.json<Answer>();
      assert.equal(seen["x-variant"], server);
      assert.match(
        first.cookies[0] ?? "",
        new RegExp(`^ab=${server}; Path=/; Max-Age=2592000; HttpOnly; SameSite=Lax$`),
      );
      const second = await client.ask("/half", { headers });
      assert.equal(second.json<Answer>().server, server, "the same hash");
      const other = server === "old" ? "new" : "old";
      const third = await client.ask("/half", { headers: { ...headers, cookie: `ab=${other}` } });
      assert.equal(third.json<Answer>().server, other, "the cookie comes first");
      assert.deepEqual(third.cookies, []);
    });

    test("a cookie with a variant that is gone, or that gets no one, does not count", async () => {
      const gone = await client.ask("/half", { headers: { cookie: "ab=blue" } });
      assert.equal(gone.cookies.length, 1);
      const closed = await client.ask("/none", { headers: { cookie: "ab=old" } });
      assert.equal(closed.json<Answer>().server, "new");
      assert.equal(closed.cookies.length, 1);
    });

    // Hashes are the same each time, so these shares are, too.
    test("variants get their weights", async () => {
      const most = await share("/most", 200);
      assert.ok(most > 0.8 && most < 1, `${most} of 0.9`);
      const half = await share("/half", 200);
      assert.ok(half > 0.35 && half < 0.65, `${half} of 0.5`);
    });

    test("an address from ctx.setUpstream is where http.balancer() goes", async () => {
      for (const way of ["old", "new"]) {
        const reply = await client.ask("/address", { headers: { cookie: `way=${way}` } });
        assert.equal(reply.json<Answer>().server, way);
      }
      assert.ok((await share("/address", 40)) > 0);
    });

    test("Lua sees the variant in the log phase", async () => {
      await client.ask("/half", { headers: { cookie: "ab=new" } });
      await gateway().nginx.waitForLog(/variant new/);
    });

    test("a variant that leads nowhere is refused", async () => {
      assert.equal((await client.ask("/odd")).status, 500);
    });
  },
);
