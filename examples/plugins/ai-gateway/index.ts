/**
 * A gateway before an OpenAI-like chat completions endpoint: the key stays here, answers stream to
 * the client as they are made, and each consumer has a quota of tokens.
 *
 *     lua_shared_dict ai_tokens 10m;
 *     location = /v1/chat/completions {
 *       lua_check_client_abort on;     # a client that leaves ends the model's work at once
 *       content_by_lua_block { require("resty.ts.http").content("ai-gateway", {
 *                                endpoint = "https://api.example.org/v1/chat/completions",
 *                                apiKey = "…", tokens = 100000, windowSeconds = 86400 }) }
 *     }
 *
 * The consumer is who an earlier plugin says it is (jwt-auth's x-user). What a request may take is
 * reserved before it goes to the model, so many at once cannot overdraw; what it did not take is
 * given back when the answer has ended, or the client has left.
 */
import { definePlugin, Type, type Exit, type RequestContext } from "resty-ts";
import { TokenCounter, watch } from "./tokens.js";

interface ChatRequest {
  stream?: boolean;
  max_tokens?: number;
  [key: string]: unknown;
}

function problem(ctx: RequestContext, status: number, title: string, detail: string): Exit {
  ctx.response.headers.set("content-type", "application/problem+json");
  return ctx.exit(status, { type: "about:blank", title, status, detail });
}

export default definePlugin({
  name: "ai-gateway",
  version: "1.0.0",
  schema: Type.Object({
    endpoint: Type.String({ format: "uri", description: "The chat completions endpoint" }),
    apiKey: Type.Optional(Type.String({ description: "Its key, which no client sees" })),
    consumerHeader: Type.String({ default: "x-user", description: "Who the quota is for" }),
    tokens: Type.Integer({ minimum: 1, description: "Tokens a consumer may take in a window" }),
    windowSeconds: Type.Integer({ default: 86_400, minimum: 1 }),
    maxTokens: Type.Integer({
      default: 1024,
      minimum: 1,
      description: "What is asked for, and reserved, when a request does not say max_tokens",
    }),
    dictionary: Type.String({ default: "ai_tokens", description: "A lua_shared_dict" }),
  }),
  // Until the model begins to answer; the stream itself may take its time.
  phases: { content: { timeoutMs: 60_000 } },

  async content(ctx, { conf }) {
    const { request } = ctx;
    if (request.method !== "POST") {
      ctx.response.headers.set("allow", "POST");
      return problem(ctx, 405, "Method Not Allowed", "POST a chat completion");
    }
    const consumer = request.headers.get(conf.consumerHeader);
    if (consumer === null) return problem(ctx, 401, "Unauthorized", "who you are is not known");

    let chat: ChatRequest;
    try {
      chat = await request.json<ChatRequest>();
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
      return problem(ctx, 400, "Bad Request", "the body must be JSON");
    }

    const now = Math.floor(Date.now() / 1000);
    const left = conf.windowSeconds - (now % conf.windowSeconds);
    const key = `${consumer}:${Math.floor(now / conf.windowSeconds)}`;
    const quota = ctx.shared(conf.dictionary);
    const reserved = chat.max_tokens ?? conf.maxTokens;
    const counter = new TokenCounter();
    const settle = (): void => {
      // With a first value: the window may have ended, and its count have gone.
      ctx.waitUntil(quota.incr(key, counter.tokens - reserved, 0, left));
    };
    if ((await quota.incr(key, reserved, 0, left)) > conf.tokens) {
      settle();
      ctx.response.headers.set("retry-after", String(left));
      const detail = `${conf.tokens} tokens in ${conf.windowSeconds} s`;
      return problem(ctx, 429, "Too Many Requests", detail);
    }

    let answer: Response;
    try {
      answer = await fetch(conf.endpoint, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          ...(conf.apiKey === undefined ? {} : { authorization: `Bearer ${conf.apiKey}` }),
        },
        body: JSON.stringify({
          ...chat,
          max_tokens: reserved,
          ...(chat.stream ? { stream_options: { include_usage: true } } : {}),
        }),
        signal: ctx.signal,
      });
    } catch (error) {
      settle();
      throw error;
    }
    const headers = {
      "content-type": answer.headers.get("content-type") ?? "application/json",
      "cache-control": "no-store",
    };
    if (answer.body === null) {
      settle();
      return new Response(null, { status: answer.status, headers });
    }
    if (chat.stream !== true) {
      const body = await answer.arrayBuffer();
      counter.pushWhole(new Uint8Array(body));
      settle();
      return new Response(body, { status: answer.status, headers });
    }
    const body = watch(answer.body, (bytes) => counter.push(bytes), settle);
    return new Response(body, { status: answer.status, headers });
  },
});
