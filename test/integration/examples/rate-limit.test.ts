/** examples/plugins/rate-limit.ts: in a shared dictionary, and in a real Redis that goes and comes. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { until } from "../../support/deadline.js";
import { describeGateway, type GatewayClient } from "../../support/gateway.js";
import { content } from "../../support/nginx-config.js";

const WINDOW = "windowSeconds = 86400";
/** A window of a day: none ends while a test runs but once a day, and then it slides. */
const limit = (conf: string, upstream: string): string => `
  access_by_lua_block { require("resty.ts.http").access("rate-limit", { ${WINDOW}, ${conf} }) }
  proxy_pass ${upstream};`;

/** redis-server on a unix socket, in a folder of its own. */
class RedisServer {
  readonly folder = mkdtempSync(join(tmpdir(), "rts-test-redis-"));
  readonly socketPath = join(this.folder, "redis.sock");
  #child: ChildProcess | undefined;

  async start(): Promise<void> {
    const args = [
      "--port",
      "0",
      "--unixsocket",
      this.socketPath,
      "--save",
      "",
      "--dir",
      this.folder,
    ];
    const child = spawn("redis-server", args, { stdio: "ignore" });
    this.#child = child;
    process.once("exit", () => child.kill("SIGKILL"));
    await until("redis-server answers", async () => {
      if (child.exitCode !== null) throw new Error(`redis-server ended: ${String(child.exitCode)}`);
      return (await this.command("PING").catch(() => "")) === "+PONG\r\n";
    });
  }

  /** One inline command on a connection of its own; the raw reply. */
  command(text: string): Promise<string> {
    return new Promise((resolve, reject) => {
      const socket = connect(this.socketPath);
      socket.once("error", reject);
      socket.once("data", (data) => {
        socket.destroy();
        resolve(data.toString());
      });
      socket.write(`${text}\r\n`);
    });
  }

  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL");
    await ended;
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Each protocol's tests count for themselves. */
const userOf = (client: GatewayClient, name: string): Record<string, string> => ({
  "x-user": `${name} ${client.protocol}`,
});

async function statuses(
  client: GatewayClient,
  path: string,
  user: Record<string, string>,
  count: number,
): Promise<number[]> {
  const found: number[] = [];
  for (let i = 0; i < count; i++) found.push((await client.ask(path, { headers: user })).status);
  return found;
}

describeGateway(
  "rate-limit in a shared dictionary",
  () => ({
    workers: 2,
    http: () => "lua_shared_dict rate_limit 1m;",
    locations: ({ upstream }) => ({
      "/api": limit(`limit = 3, keyHeader = "x-user"`, upstream.url),
      "/address": limit(`limit = 100000, dictionary = "kept"`, upstream.url),
      // As if so many requests had come in the window before.
      "/before": content(`
        local index = math.floor(ngx.now() / 86400) - 1
        ngx.shared.rate_limit:set(ngx.var.http_x_user .. ":" .. index, tonumber(ngx.var.arg_n))`),
      "/no-dictionary": limit(`limit = 3, dictionary = "none"`, upstream.url),
    }),
    allowLog: [/there is no shared dictionary none/],
  }),
  (gateway, client) => {
    test("requests up to the limit go through, with what is left", async () => {
      const headers = userOf(client, "ada");
      for (const left of ["2", "1", "0"]) {
        const reply = await client.ask("/api", { headers });
        assert.equal(reply.status, 200);
        assert.equal(reply.headers["ratelimit-limit"], "3");
        assert.equal(reply.headers["ratelimit-remaining"], left);
        assert.match(reply.headers["ratelimit-reset"] ?? "", /^\d+$/);
        assert.equal(reply.headers["retry-after"], undefined);
      }
      const seen = gateway().upstream.seen.length;
      const refused = await client.ask("/api", { headers });
      assert.equal(refused.status, 429);
      assert.equal(refused.headers["ratelimit-remaining"], "0");
      assert.equal(refused.headers["retry-after"], refused.headers["ratelimit-reset"]);
      assert.deepEqual(refused.json(), { message: "at most 3 requests in 86400 s" });
      assert.equal(gateway().upstream.seen.length, seen, "the upstream did not see it");
    });

    test("many at once, over two workers, get exactly the limit", async () => {
      const headers = userOf(client, "crowd");
      const found = await Promise.all(
        Array.from({ length: 20 }, async () => (await client.ask("/api", { headers })).status),
      );
      const through = found.filter((status) => status === 200).length;
      assert.equal(through, 3);
      assert.deepEqual([...new Set(found)].sort(), [200, 429]);
    });

    test("each client has a limit of its own", async () => {
      assert.deepEqual(
        await statuses(client, "/api", userOf(client, "b"), 4),
        [200, 200, 200, 429],
      );
      assert.deepEqual(await statuses(client, "/api", userOf(client, "c"), 1), [200]);
    });

    test("the window before still counts as far as it overlaps", async () => {
      const headers = userOf(client, "late");
      await client.ask("/before?n=3000000", { headers });
      assert.deepEqual(await statuses(client, "/api", headers, 1), [429]);
      await client.ask("/before?n=0", { headers });
      assert.deepEqual(await statuses(client, "/api", headers, 1), [200]);
    });

    test("without a field the client is its address", async () => {
      const first = await client.ask("/address", { headers: userOf(client, "x") });
      const second = await client.ask("/address", { headers: userOf(client, "y") });
      const left = (reply: typeof first): number => Number(reply.headers["ratelimit-remaining"]);
      assert.equal(left(second), left(first) - 1);
    });

    test("a dictionary that is not there is an error, and closed", async () => {
      const reply = await client.ask("/no-dictionary");
      assert.equal(reply.status, 500);
      assert.equal(reply.headers["content-type"], "application/problem+json");
    });
  },
);

describe("rate-limit in Redis", () => {
  const redis = new RedisServer();
  before(() => redis.start());
  after(async () => {
    await redis.stop();
    redis.remove();
  });

  describeGateway(
    "for many machines",
    () => ({
      workers: 2,
      initWorker: () => `
        local http = require "resty.ts.http"
        local function chain(name, on_error)
            http.route(name, { { name = "rate-limit", on_error = on_error, conf = {
                limit = 3, ${WINDOW}, keyHeader = "x-user", redis = { url = "${redis.socketPath}" } } } })
        end
        chain("closed", "closed")
        chain("open", "open")`,
      locations: ({ upstream }) =>
        Object.fromEntries(
          ["closed", "open"].map((name) => [
            `/${name}`,
            `set $resty_ts_route ${name};
             access_by_lua_block { require("resty.ts.http").run() }
             proxy_pass ${upstream.url};`,
          ]),
        ),
      allowLog: [/rate-limit/],
    }),
    (_gateway, client) => {
      test("the limit holds over all workers, and Redis has the count", async () => {
        const user = userOf(client, "ada");
        assert.deepEqual(await statuses(client, "/closed", user, 5), [200, 200, 200, 429, 429]);
        const keys = await redis.command("KEYS rate-limit:ada*");
        assert.ok(keys.includes(`rate-limit:ada ${client.protocol}`), keys);
      });

      test("a count of the window before still counts as far as it overlaps", async () => {
        const key = `"rate-limit:late ${client.protocol}"`;
        await statuses(client, "/closed", userOf(client, "late"), 1);
        const index = Number(/\d+(?=\r\n$)/.exec(await redis.command(`HGET ${key} index`))?.[0]);
        assert.ok(index > 0);
        // 3 million requests a day ago: some of these count until the last moments of today.
        await redis.command(`HSET ${key} index ${index - 1} count 3000000 previous 0`);
        assert.deepEqual(await statuses(client, "/closed", userOf(client, "late"), 1), [429]);
        await redis.command(`HSET ${key} index ${index - 2} count 3000000 previous 0`);
        assert.deepEqual(await statuses(client, "/closed", userOf(client, "late"), 1), [200]);
      });

      test("without Redis: closed answers 500, open lets through; and it heals", async () => {
        const user = userOf(client, "gone");
        assert.deepEqual(await statuses(client, "/closed", user, 1), [200]);
        await redis.stop();
        assert.deepEqual(await statuses(client, "/closed", user, 2), [500, 500]);
        assert.deepEqual(await statuses(client, "/open", user, 5), [200, 200, 200, 200, 200]);
        await redis.start();
        await until("the limit is back", async () => {
          const reply = await client.ask("/open", { headers: userOf(client, "back") });
          return reply.headers["ratelimit-limit"] === "3";
        });
      });
    },
  );
});
