/**
 * So many requests a window for each client: counted in a shared dictionary for the workers of one
 * nginx, or in Redis for many machines.
 *
 *     lua_shared_dict rate_limit 10m;
 *     location /api {
 *       access_by_lua_block { require("resty.ts.http").access("rate-limit", {
 *                               limit = 100, windowSeconds = 60 }) }
 *       proxy_pass http://backend;
 *     }
 *
 * The window slides: the previous one counts as far as it still overlaps. A request that is refused
 * does not count. Without Redis the policy onError answers; to let requests through then, say so
 * where the chain is made: { "rate-limit", { limit = 100, redis = {…} }, on_error = "open" }.
 */
import { Redis } from "ioredis";
import { definePlugin, Type, type RequestContext } from "resty-ts";

interface Verdict {
  readonly allowed: boolean;
  readonly remaining: number;
}

interface Counter {
  take(ctx: RequestContext, key: string): Promise<Verdict>;
  close(): void;
}

/** All of it in one step, by Redis' clock, which is the same for all machines. */
const TAKE = `
local limit, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call("TIME")
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local index = math.floor(now / window)
local old = redis.call("HMGET", KEYS[1], "index", "count", "previous")
local count, previous = tonumber(old[2]) or 0, tonumber(old[3]) or 0
local behind = index - (tonumber(old[1]) or index)
if behind == 1 then count, previous = 0, count elseif behind > 1 then count, previous = 0, 0 end
local used = previous * (1 - now % window / window) + count
if used + 1 > limit then return { 0, 0 } end
redis.call("HSET", KEYS[1], "index", index, "count", count + 1, "previous", previous)
redis.call("PEXPIRE", KEYS[1], window * 2)
return { 1, math.floor(limit - used - 1) }
`;

function redisCounter(
  { url, prefix, timeoutMs }: { url: string; prefix: string; timeoutMs: number },
  limit: number,
  windowMs: number,
  onError: (error: Error) => void,
): Counter {
  const redis = new Redis(url, {
    commandTimeout: timeoutMs,
    connectTimeout: timeoutMs,
    // A request waits for Redis once, not for Redis to come back.
    maxRetriesPerRequest: 0,
    retryStrategy: (times) => Math.min(times * 100, 2000),
  });
  redis.on("error", onError);
  redis.defineCommand("take", { numberOfKeys: 1, lua: TAKE });
  const scripts = redis as unknown as {
    take(key: string, limit: number, windowMs: number): Promise<[number, number]>;
  };
  return {
    async take(_ctx, key) {
      const [allowed, remaining] = await scripts.take(prefix + key, limit, windowMs);
      return { allowed: allowed === 1, remaining };
    },
    close: () => redis.disconnect(),
  };
}

function sharedCounter(dictionary: string, limit: number, windowMs: number): Counter {
  return {
    async take(ctx, key) {
      const now = Date.now();
      const index = Math.floor(now / windowMs);
      const dict = ctx.shared(dictionary);
      const mine = `${key}:${index}`;
      // Both in one message to nginx.
      const [count, previous] = await Promise.all([
        dict.incr(mine, 1, 0, (2 * windowMs) / 1000),
        dict.get(`${key}:${index - 1}`),
      ]);
      const used = Number(previous ?? 0) * (1 - (now % windowMs) / windowMs) + count;
      if (used <= limit) return { allowed: true, remaining: Math.floor(limit - used) };
      await dict.incr(mine, -1);
      return { allowed: false, remaining: 0 };
    },
    close: () => undefined,
  };
}

export default definePlugin({
  name: "rate-limit",
  version: "1.0.0",
  priority: 1001,
  schema: Type.Object({
    limit: Type.Integer({ minimum: 1, description: "Requests a window" }),
    windowSeconds: Type.Integer({ minimum: 1, default: 60 }),
    keyHeader: Type.Optional(
      Type.String({
        description: "The request field that a client is known by (x-user, say); else its address",
      }),
    ),
    dictionary: Type.String({ default: "rate_limit", description: "A lua_shared_dict" }),
    redis: Type.Optional(
      Type.Object(
        {
          url: Type.String({ description: '"redis://host:6379/0", or a unix socket\'s path' }),
          prefix: Type.String({ default: "rate-limit:" }),
          timeoutMs: Type.Integer({ default: 500, minimum: 1 }),
        },
        { description: "Counts here, for many machines, in place of the dictionary" },
      ),
    ),
  }),

  setup({ limit, windowSeconds, dictionary, redis }, { log }): Counter {
    const windowMs = windowSeconds * 1000;
    if (redis === undefined) return sharedCounter(dictionary, limit, windowMs);
    return redisCounter(redis, limit, windowMs, (error) => log.warn(`Redis: ${error.message}`));
  },

  teardown({ state: counter }) {
    counter.close();
  },

  async access(ctx, { conf, state: counter }) {
    const known = conf.keyHeader === undefined ? null : ctx.request.headers.get(conf.keyHeader);
    const { allowed, remaining } = await counter.take(ctx, known ?? ctx.request.remoteAddress);
    const windowMs = conf.windowSeconds * 1000;
    const reset = Math.ceil((windowMs - (Date.now() % windowMs)) / 1000);
    const { headers } = ctx.response;
    headers.set("ratelimit-limit", String(conf.limit));
    headers.set("ratelimit-remaining", String(remaining));
    headers.set("ratelimit-reset", String(reset));
    if (allowed) return undefined;
    headers.set("retry-after", String(reset));
    return ctx.exit(429, { message: `at most ${conf.limit} requests in ${conf.windowSeconds} s` });
  },
});
