/** examples/plugins/ai-gateway before a model that is a fake, and streams when the test says so. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { until } from "../../support/deadline.js";
import { content } from "../../support/nginx-config.js";
import { describeGateway, type GatewayClient, type Upstream } from "../../support/gateway.js";

interface Chat {
  model?: string;
  stream?: boolean;
  max_tokens?: number;
  stream_options?: unknown;
  messages?: { content: string }[];
}

/** A completion that the test lets go on, piece by piece. */
class Completion {
  readonly chat: Chat;
  readonly authorization: string | undefined;
  readonly #response: ServerResponse;
  /** The gateway does not listen any more. */
  left = false;

  constructor(chat: Chat, authorization: string | undefined, response: ServerResponse) {
    this.chat = chat;
    this.authorization = authorization;
    this.#response = response;
    response.on("close", () => (this.left = !response.writableFinished));
    response.writeHead(200, { "content-type": "text/event-stream" });
  }

  /** Sends the header: the answer has begun. */
  begin(): void {
    this.#response.flushHeaders();
  }

  say(data: object | string): void {
    const text = typeof data === "string" ? data : JSON.stringify(data);
    this.#response.write(`data: ${text}\n\n`);
  }

  token(text: string): void {
    this.say({ choices: [{ delta: { content: text } }] });
  }

  /** @param tokens of the usage that the model reports; undefined: it reports none. */
  end(tokens?: number): void {
    if (tokens !== undefined) this.say({ choices: [], usage: { total_tokens: tokens } });
    this.say("[DONE]");
    this.#response.end();
  }
}

const completions: Completion[] = [];

function model(upstream: Upstream): void {
  upstream.on("/v1/chat/completions", (request, response, body) => {
    const chat = JSON.parse(body.toString()) as Chat;
    if (chat.model === "broken") {
      response.writeHead(400, { "content-type": "application/json" });
      response.end('{"error":"no such model"}');
    } else if (chat.stream === true) {
      completions.push(new Completion(chat, request.headers.authorization, response));
    } else {
      response.writeHead(200, { "content-type": "application/json" });
      response.end('{"choices":[{"message":{"content":"hi"}}],"usage":{"total_tokens":30}}');
    }
  });
}

describeGateway(
  "ai-gateway",
  () => ({
    http: () => "lua_shared_dict ai_tokens 1m;",
    locations: ({ upstream }) => {
      model(upstream);
      return {
        "/v1/chat/completions": `
          lua_check_client_abort on;
          content_by_lua_block { require("resty.ts.http").content("ai-gateway", {
            endpoint = "${upstream.url}/v1/chat/completions", apiKey = "the key",
            tokens = 100, windowSeconds = 86400, maxTokens = 40 }) }`,
        "/nowhere": `
          content_by_lua_block { require("resty.ts.http").content("ai-gateway", {
            endpoint = "http://127.0.0.1:1/", tokens = 5000 }) }`,
        "/used": content(`
          local sum = 0
          for _, key in ipairs(ngx.shared.ai_tokens:get_keys(0)) do
              if key:sub(1, #ngx.var.arg_user + 1) == ngx.var.arg_user .. ":" then
                  sum = sum + ngx.shared.ai_tokens:get(key)
              end
          end
          ngx.print(sum)`),
      };
    },
    allowLog: [/ai-gateway, content, .*fetch failed/],
  }),
  (gateway, client) => {
    const userOf = (name: string): string => `${name}-${client.protocol.slice(5, 6)}`;
    const post = (user: string, chat: Chat) => ({
      method: "POST",
      headers: { "content-type": "application/json", "x-user": user },
      body: JSON.stringify(chat),
    });
    const complete = (user: string, chat: Chat, from: GatewayClient = client) =>
      from.ask("/v1/chat/completions", post(user, chat));
    const used = async (user: string): Promise<number> =>
      Number((await gateway().nginx.ask(`/used?user=${user}`)).text);
    const usedIs = (user: string, tokens: number) =>
      until(
        `${user} has used ${tokens} tokens`,
        async () => (await used(user)) === tokens,
        10_000,
        () => "it did not settle",
      );

    /** Opens a stream; gives it with the model's end of it. */
    async function stream(user: string, chat: Chat = {}, signal?: AbortSignal) {
      const before = completions.length;
      const opening = client.open("/v1/chat/completions", {
        ...post(user, { ...chat, stream: true }),
        ...(signal === undefined ? {} : { signal }),
      });
      const completion = await until("the model is asked", () => completions[before]);
      return { opening, completion };
    }

    test("tokens reach the client as they are made", async () => {
      const user = userOf("ada");
      const { opening, completion } = await stream(user);
      completion.token("Hel");
      const reply = await opening;
      assert.equal(reply.status, 200);
      assert.equal(reply.headers["content-type"], "text/event-stream");
      assert.equal(reply.headers["cache-control"], "no-store");
      const pieces = reply.body[Symbol.asyncIterator]();
      let text = "";
      const read = async (wanted: string): Promise<void> => {
        while (!text.includes(wanted)) {
          const next = (await pieces.next()) as IteratorResult<Buffer, undefined>;
          if (next.done === true) assert.fail(`the stream ended before ${wanted}`);
          text += next.value.toString();
        }
      };
      await read('"Hel"');
      // Each is made only when the client has the one before.
      for (const word of ["lo", " ", "Zoë"]) {
        completion.token(word);
        await read(JSON.stringify(word));
      }
      completion.end(12);
      await read("[DONE]");
      assert.ok((await pieces.next()).done);
      assert.equal(completion.authorization, "Bearer the key");
      assert.equal(completion.chat.max_tokens, 40);
      assert.deepEqual(completion.chat.stream_options, { include_usage: true });
      await usedIs(user, 12);
    });

    test("without a report of the model the pieces are counted", async () => {
      const user = userOf("bob");
      const { opening, completion } = await stream(user, { max_tokens: 10 });
      for (const word of ["a", "b", "c"]) completion.token(word);
      completion.end();
      for await (const piece of (await opening).body) void piece;
      await usedIs(user, 3);
    });

    test("an answer that is no stream counts as it says", async () => {
      const user = userOf("cleo");
      const reply = await complete(user, { model: "x" });
      assert.deepEqual(reply.json()["usage"], { total_tokens: 30 });
      await usedIs(user, 30);
    });

    test("above the quota the answer is 429, and the model is not asked", async () => {
      const user = userOf("dora");
      for (let i = 0; i < 3; i++) assert.equal((await complete(user, {})).status, 200);
      await usedIs(user, 90);
      const before = gateway().upstream.seen.length;
      const reply = await complete(user, {});
      assert.equal(reply.status, 429);
      assert.equal(reply.headers["content-type"], "application/problem+json");
      assert.match(reply.headers["retry-after"] ?? "", /^\d+$/);
      assert.equal(gateway().upstream.seen.length, before);
      await usedIs(user, 90);
      assert.equal((await complete(user, { max_tokens: 10 })).status, 200, "so much is left");
      assert.equal((await complete(userOf("eve"), {})).status, 200, "others have their own");
    });

    test("many streams at once cannot overdraw: what they may take is reserved", async () => {
      const user = userOf("fay");
      const first = await stream(user);
      first.completion.token("a");
      const second = await stream(user);
      second.completion.token("b");
      assert.equal((await complete(user, {})).status, 429);
      for (const { opening, completion } of [first, second]) {
        const { body } = await opening;
        completion.end(20);
        for await (const piece of body) void piece;
      }
      await usedIs(user, 40);
      assert.equal((await complete(user, {})).status, 200);
    });

    test("when the client leaves, the model is let go, and what it made counts", async () => {
      const user = userOf("gus");
      const { opening, completion } = await stream(user);
      completion.token("one");
      const reply = await opening;
      const pieces = reply.body[Symbol.asyncIterator]();
      await pieces.next();
      completion.token("two");
      await pieces.next();
      reply.leave();
      await until("the fetch is aborted", () => completion.left);
      await usedIs(user, 2);
    });

    test("a client that leaves before the first token ends the model's work, too", async () => {
      const user = userOf("hal");
      const leaving = new AbortController();
      const { opening, completion } = await stream(user, {}, leaving.signal);
      completion.begin();
      // nginx keeps a header of HTTP/2 with TLS until a piece of the body follows it.
      if (client.protocol === "HTTP/1.1") await opening;
      leaving.abort();
      await opening.catch(() => undefined);
      await until("the fetch is aborted", () => completion.left);
      await usedIs(user, 0);
    });

    test("so does one that leaves before the model answers at all", async () => {
      const user = userOf("isa");
      const leaving = new AbortController();
      const { opening, completion } = await stream(user, {}, leaving.signal);
      leaving.abort();
      await assert.rejects(opening, /the client left/);
      await until("the fetch is aborted", () => completion.left);
      await usedIs(user, 0);
    });

    test("what the model says of a bad request reaches the client, and costs nothing", async () => {
      const user = userOf("ida");
      const reply = await complete(user, { model: "broken" });
      assert.equal(reply.status, 400);
      assert.deepEqual(reply.json(), { error: "no such model" });
      await usedIs(user, 0);
    });

    test("bad requests are told what is wrong", async () => {
      const path = "/v1/chat/completions";
      assert.equal((await client.ask(path)).status, 405);
      assert.equal((await client.ask(path, { method: "POST", body: "{}" })).status, 401);
      const headers = { "x-user": "x" };
      assert.equal((await client.ask(path, { method: "POST", headers, body: "{" })).status, 400);
    });

    test("a model that cannot be reached is a problem without its address", async () => {
      const reply = await client.ask("/nowhere", post(userOf("jo"), {}));
      assert.equal(reply.status, 500);
      assert.equal(reply.headers["content-type"], "application/problem+json");
      assert.doesNotMatch(reply.text, /127\.0\.0\.1|ECONN/);
    });
  },
);
