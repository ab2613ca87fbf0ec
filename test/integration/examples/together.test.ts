/** The examples as one chain over all phases: http.route and conf/resty_ts.conf. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { SignJWT } from "jose";
import { until } from "../../support/deadline.js";
import { describeGateway } from "../../support/gateway.js";
import { INSTALLATION } from "../../support/project.js";

const SECRET = "a secret of the tests, long enough for HS256";

interface Entry {
  uri: string;
  status: number;
  client: string;
}

describeGateway(
  "all together",
  () => ({
    http: () => "lua_shared_dict rate_limit 1m;",
    locations: () => ({
      "/api": `
        set $ab_upstream "";
        set $resty_ts_route api;
        include ${join(INSTALLATION.root, "conf", "resty_ts.conf")};
        proxy_pass http://$ab_upstream;`,
    }),
    initWorker: ({ upstream }) => {
      upstream.on("/ingest", (_request, response) => void response.end());
      return `
        require("resty.ts.http").route("api", {
          { "access-logger", { url = "${upstream.url}/ingest", batchSize = 1 } },
          { "response-rewrite", { json = { { path = "/headers/authorization", remove = true } } } },
          { "rate-limit", { limit = 2, windowSeconds = 86400, keyHeader = "x-user" },
            on_error = "open" },
          { "ab-upstream", { variants = { { name = "only", upstream = "127.0.0.1:${upstream.port}" } } } },
          { "jwt-auth", { secret = "${SECRET}" } },
          { "cors", { origins = { "https://app.example.org" } } },
        })`;
    },
  }),
  (gateway, client) => {
    const origin = "https://app.example.org";
    const token = (user: string): Promise<string> =>
      new SignJWT({ sub: `${user} ${client.protocol}` })
        .setProtectedHeader({ alg: "HS256" })
        .setExpirationTime("1h")
        .sign(new TextEncoder().encode(SECRET));
    const logged = (): Entry[] =>
      gateway()
        .upstream.seen.filter(({ url }) => url === "/ingest")
        .flatMap(({ body }) => body.trimEnd().split("\n"))
        .map((line) => JSON.parse(line) as Entry);

    test("plugins run by their priorities, however they are listed", async () => {
      const preflight = await client.ask("/api/a", {
        method: "OPTIONS",
        headers: { origin, "access-control-request-method": "GET" },
      });
      assert.equal(preflight.status, 204, "before the token is asked for");
    });

    test("what one refuses still has what the others say of it", async () => {
      const reply = await client.ask("/api/a", { headers: { origin } });
      assert.equal(reply.status, 401);
      assert.equal(reply.headers["access-control-allow-origin"], origin);
      assert.equal(
        reply.headers["ratelimit-limit"],
        undefined,
        "it runs after the token is checked",
      );
    });

    test("a request goes through all of them, and into the log", async () => {
      const authorization = `Bearer ${await token("ada")}`;
      const uri = `/api/b?of=${client.protocol.slice(0, 6).replace("/", "")}`;
      const found: number[] = [];
      for (let i = 0; i < 3; i++) {
        const reply = await client.ask(uri, { headers: { origin, authorization } });
        found.push(reply.status);
        if (reply.status !== 200) continue;
        const { headers } = reply.json<{ headers: Record<string, string> }>();
        assert.equal(headers["x-user"], `ada ${client.protocol}`);
        assert.equal(headers["x-variant"], "only");
        assert.equal(
          headers["authorization"],
          undefined,
          "the upstream got it, the client does not",
        );
        assert.equal(reply.headers["ratelimit-remaining"], String(1 - i));
        assert.equal(reply.headers["access-control-allow-origin"], origin);
        assert.match(reply.cookies[0] ?? "", /^ab=only;/);
      }
      assert.deepEqual(found, [200, 200, 429]);
      const statuses = await until("all are in the log", () => {
        const mine = logged().filter((entry) => entry.uri === uri);
        return mine.length >= 3 ? mine.map(({ status }) => status) : undefined;
      });
      assert.deepEqual(statuses, [200, 200, 429]);
    });
  },
);
