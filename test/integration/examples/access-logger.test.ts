/** examples/plugins/access-logger: a real collector that fails, comes back, and must get all. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { until } from "../../support/deadline.js";
import { Gateway, type GatewayOptions, Upstream } from "../../support/gateway.js";

interface Entry {
  uri: string;
  method: string;
  status: number;
  httpVersion: string;
  client: string;
  bytes: number;
  seconds: number;
  id: string;
  time: string;
  upstream?: string;
  userAgent?: string;
}

/** Takes batches, or answers with the statuses it is told, one after the other. */
class Collector {
  readonly batches: Entry[][] = [];
  readonly failures: number[] = [];
  /** Takes nothing: 503. */
  down = false;
  refused = 0;
  readonly #server: Upstream;

  private constructor(server: Upstream) {
    this.#server = server;
    server.on("/ingest", (request, response, body) => {
      assert.equal(request.headers["content-type"], "application/x-ndjson");
      const failure = this.down ? 503 : this.failures.shift();
      if (failure !== undefined) {
        this.refused++;
        response.statusCode = failure;
      } else {
        const lines = body.toString().trimEnd().split("\n");
        this.batches.push(lines.map((line) => JSON.parse(line) as Entry));
      }
      response.end();
    });
  }

  static async start(): Promise<Collector> {
    return new Collector(await Upstream.start("collector"));
  }

  get url(): string {
    return `${this.#server.url}/ingest`;
  }

  get entries(): Entry[] {
    return this.batches.flat();
  }

  got(count: number): Promise<true> {
    return until(
      `the collector has ${count} entries`,
      () => this.entries.length >= count,
      10_000,
      () => `it has ${this.entries.length}`,
    );
  }

  stop(): Promise<void> {
    return this.#server.stop();
  }
}

const A_DAY_MS = 86_400_000;

/** A gateway that logs to a collector of its own. */
async function withLogger(
  conf: string,
  body: (gateway: Gateway, collector: Collector) => Promise<void>,
  options: Partial<GatewayOptions> = {},
): Promise<void> {
  const collector = await Collector.start();
  try {
    const gateway = await Gateway.start({
      ...options,
      locations: ({ upstream }) => ({
        "/": `
          access_by_lua_block {
            require("resty.ts.http").access("access-logger", { url = "${collector.url}", ${conf} })
          }
          log_by_lua_block { require("resty.ts.http").log("access-logger") }
          proxy_pass ${upstream.url};`,
        "/quiet": `return 204;`,
      }),
    });
    try {
      await body(gateway, collector);
    } finally {
      await gateway.stop();
    }
  } finally {
    await collector.stop();
  }
}

async function ask(gateway: Gateway, uris: string[]): Promise<void> {
  for (const uri of uris) {
    for (const client of gateway.clients) {
      const reply = await client.ask(uri, { headers: { "user-agent": "tests" } });
      assert.equal(reply.status, 200);
    }
  }
}

const uris = (count: number): string[] => Array.from({ length: count }, (_, i) => `/r/${i}?x=%20`);

describe("access-logger", () => {
  test("each request is one entry, with what nginx knows of it", () =>
    withLogger("batchSize = 2", async (gateway, collector) => {
      await ask(gateway, ["/a?b=%20c"]);
      await gateway.clients[0]!.ask("/quiet");
      await collector.got(2);
      const [first, second] = collector.entries;
      assert.equal(collector.entries.length, 2, "the other location does not log");
      assert.deepEqual(
        { ...first, id: "", time: "", bytes: 0, seconds: 0 },
        {
          ...{ time: "", id: "", client: "127.0.0.1", method: "GET", uri: "/a?b=%20c" },
          ...{ httpVersion: "1.1", status: 200, bytes: 0, seconds: 0 },
          ...{ upstream: `127.0.0.1:${gateway.upstream.port}`, userAgent: "tests" },
        },
      );
      assert.match(first!.id, /^[0-9a-f]{32}$/);
      assert.match(first!.time, /^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
      assert.ok(first!.bytes > 100 && first!.seconds >= 0);
      assert.equal(second!.httpVersion, "2.0");
    }));

  test("entries go in batches, in order", () =>
    withLogger(`batchSize = 10, intervalMs = ${A_DAY_MS}`, async (gateway, collector) => {
      await ask(gateway, uris(10));
      await collector.got(20);
      assert.deepEqual(
        collector.batches.map((batch) => batch.length),
        [10, 10],
      );
      assert.deepEqual(
        collector.entries.filter((_, i) => i % 2 === 0).map(({ uri }) => uri),
        uris(10),
      );
    }));

  test("a batch that the collector does not take is sent again, and comes once", () =>
    withLogger(`batchSize = 4, backoffMs = 1`, async (gateway, collector) => {
      collector.failures.push(503, 429, 500);
      await ask(gateway, uris(4));
      await collector.got(8);
      assert.equal(collector.refused, 3);
      assert.equal(new Set(collector.entries.map(({ id }) => id)).size, 8);
      assert.equal(collector.entries.length, 8);
    }));

  test("one that it refuses for good is not, and the log says so", () =>
    withLogger(
      `batchSize = 2`,
      async (gateway, collector) => {
        collector.failures.push(400);
        await ask(gateway, uris(1));
        await gateway.nginx.waitForLog(/\[access-logger\] the collector refused a batch: HTTP 400/);
        await ask(gateway, uris(1));
        await collector.got(2);
        assert.equal(collector.entries.length, 2);
      },
      { allowLog: [/the collector refused a batch/] },
    ));

  test("what waits is bounded: the oldest is dropped, and the log says how many", () =>
    withLogger(
      `batchSize = 2, maxWaiting = 4, retries = 1000, backoffMs = 20`,
      async (gateway, collector) => {
        collector.down = true;
        let sent = 0;
        await until("the buffer is full", async () => {
          await ask(gateway, [`/r/${sent}`]);
          sent += 2;
          return gateway.nginx.errorLog().includes("[access-logger] the buffer is full");
        });
        collector.down = false;
        const dropped = (): number =>
          [...gateway.nginx.errorLog().matchAll(/\[access-logger\] (\d+) entries were dropped/g)]
            .map(([, count]) => Number(count))
            .reduce((sum, count) => sum + count, 0);
        await until(
          "each is there or dropped",
          () => collector.entries.length + dropped() === sent,
        );
        assert.ok(dropped() > 0);
        assert.equal(collector.entries[0]?.uri, "/r/0", "it was on its way");
        assert.equal(collector.entries.at(-1)?.uri, `/r/${sent - 2}`);
      },
    ));

  test("nothing is lost when nginx quits, though no batch was full", () =>
    withLogger(`batchSize = 1000, intervalMs = ${A_DAY_MS}`, async (gateway, collector) => {
      await ask(gateway, uris(5));
      assert.equal(collector.entries.length, 0);
      await gateway.nginx.quit();
      assert.equal(collector.entries.length, 10);
    }));

  test("nor when it reloads, nor while the collector is down for a moment", () =>
    withLogger(
      `batchSize = 1000, intervalMs = ${A_DAY_MS}, backoffMs = ${A_DAY_MS}`,
      async (gateway, collector) => {
        await ask(gateway, uris(3));
        collector.failures.push(503, 503);
        await gateway.nginx.reload();
        assert.equal(collector.refused, 2);
        assert.equal(collector.entries.length, 6);
        await ask(gateway, uris(2));
        await gateway.nginx.quit();
        assert.equal(collector.entries.length, 10);
        assert.equal(new Set(collector.entries.map(({ id }) => id)).size, 10);
      },
    ));

  test("a collector that does not answer holds up neither responses nor the end", () =>
    withLogger(`batchSize = 1, retries = 0, timeoutMs = 300`, async (gateway, collector) => {
      await collector.stop();
      await ask(gateway, uris(3));
      await gateway.nginx.waitForLog(/1 entries are lost after 1 attempts/);
      await gateway.nginx.quit();
    }));
});
