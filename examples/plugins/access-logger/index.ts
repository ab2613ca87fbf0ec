/**
 * The access log, sent to an HTTP collector in batches, one JSON object a line.
 *
 *     server {
 *       access_by_lua_block { require("resty.ts.http").access("access-logger", {
 *                               url = "https://logs.example.org/ingest" }) }
 *       log_by_lua_block    { require("resty.ts.http").log("access-logger") }
 *     }
 *
 * No response waits for it. There is nothing to do in access but to be ready: log cannot wait until
 * the configuration is loaded, and the first entries of a worker would be lost. A batch that the
 * collector does not take is sent again; what is still there when the worker shuts down or the
 * configuration goes is sent at once.
 */
import { definePlugin, Type } from "resty-ts";
import { Batches } from "./batches.js";

export default definePlugin({
  name: "access-logger",
  version: "1.0.0",
  priority: 400,
  schema: Type.Object({
    url: Type.String({ format: "uri", description: "Where batches are posted" }),
    headers: Type.Record(Type.String(), Type.String(), {
      default: {},
      description: "For the collector: authorization, say",
    }),
    batchSize: Type.Integer({
      default: 100,
      minimum: 1,
      description: "Entries in a batch at most",
    }),
    intervalMs: Type.Integer({ default: 1000, minimum: 1, description: "How long one may wait" }),
    maxWaiting: Type.Integer({
      default: 10_000,
      minimum: 1,
      description: "Entries kept in memory; beyond, the oldest are dropped",
    }),
    retries: Type.Integer({ default: 5, minimum: 0 }),
    backoffMs: Type.Integer({ default: 200, minimum: 1, description: "Doubled with each retry" }),
    timeoutMs: Type.Integer({ default: 2000, minimum: 1, description: "For one attempt" }),
  }),
  needs: { vars: ["msec", "request_id", "request_time", "bytes_sent", "upstream_addr"] },

  setup(conf, { log }) {
    return new Batches({
      ...conf,
      warn: (text) => log.warn(text),
      async send(entries) {
        const answer = await fetch(conf.url, {
          method: "POST",
          headers: { "content-type": "application/x-ndjson", ...conf.headers },
          body: entries.map((entry) => `${JSON.stringify(entry)}\n`).join(""),
          signal: AbortSignal.timeout(conf.timeoutMs),
        });
        await answer.arrayBuffer();
        // Who refuses a batch for good refuses it the next time, too.
        if (answer.status >= 500 || answer.status === 429) throw new Error(`HTTP ${answer.status}`);
        if (!answer.ok) log.error(`the collector refused a batch: HTTP ${answer.status}`);
      },
    });
  },

  teardown({ state: batches }) {
    return batches.close();
  },

  log({ request, response, vars }, { state: batches }) {
    batches.add({
      time: new Date(Number(vars["msec"]) * 1000).toISOString(),
      id: vars["request_id"],
      client: request.remoteAddress,
      method: request.method,
      uri: request.originalUri,
      httpVersion: request.httpVersion,
      status: response.status,
      bytes: Number(vars["bytes_sent"]),
      seconds: Number(vars["request_time"]),
      upstream: vars["upstream_addr"],
      userAgent: request.headers.get("user-agent") ?? undefined,
    });
  },
});
