/** Answers the client in access. */
import { definePlugin, type Exit, type RequestContext, Type } from "resty-ts";

function streamOf(...pieces: string[]): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const piece = pieces.shift();
      if (piece === undefined) controller.close();
      else if (piece === "!") controller.error(new Error("the source is gone"));
      else controller.enqueue(new TextEncoder().encode(piece));
    },
  });
}

const actions: Record<string, (ctx: RequestContext) => Response | Exit | Promise<Response>> = {
  text: (ctx) => ctx.exit(401, "caf\u00e9"),
  json: (ctx) => ctx.exit(403, { message: "no", list: [1, null] }),
  bytes: (ctx) => ctx.exit(200, Uint8Array.of(0, 1, 254, 255)),
  status: (ctx) => ctx.exit(403),
  "no-content": (ctx) => ctx.exit(204),
  "not-modified": (ctx) => {
    ctx.response.headers.set("ETag", '"a"');
    return ctx.exit(304);
  },
  "own-type": (ctx) => {
    ctx.response.headers.set("Content-Type", "text/csv");
    return ctx.exit(200, "a,b");
  },
  redirect: (ctx) => {
    ctx.response.headers.set("Location", "/elsewhere?x=1");
    return ctx.exit(302);
  },
  cookies: (ctx) => {
    ctx.response.headers.append("Set-Cookie", "a=1; Path=/");
    ctx.response.headers.append("Set-Cookie", "b=2, with a comma");
    return ctx.exit(200, "ok");
  },
  response: () =>
    new Response("made", { status: 201, headers: { "X-A": "1", "Content-Type": "text/html" } }),
  "response-json": () => Response.json({ a: 1 }),
  "response-cookies": () => {
    const headers = new Headers();
    headers.append("set-cookie", "a=1");
    headers.append("set-cookie", "b=2");
    return new Response(null, { status: 200, headers });
  },
  "response-length": () => new Response("12345", { headers: { "content-length": "5" } }),
  stream: () => new Response(streamOf("one ", "two ", "three"), { headers: { "X-A": "1" } }),
  "stream-breaks": () => new Response(streamOf("one ", "!")),
  "stream-large": () =>
    new Response(
      streamOf(
        ..."x"
          .repeat(50)
          .split("")
          .map((x) => x.repeat(9999)),
      ),
    ),
  null: () => new Response(null, { headers: { "x-a": "1" } }),
  etag: () => new Response("tagged", { headers: { etag: '"a"' } }),
  "etag-stream": () => {
    let pieces = 0;
    const body = new ReadableStream<Uint8Array>({
      async pull(controller) {
        await new Promise(setImmediate);
        controller.enqueue(new TextEncoder().encode("tagged"));
        if (++pieces === 3) controller.close();
      },
    });
    return new Response(body, { headers: { etag: 'W/"a"' } });
  },
  "no-body-on-204": (ctx) => ctx.exit(204, "x"),
  "bad-status": (ctx) => ctx.exit(99),
  later: async () => {
    await new Promise((resolve) => setTimeout(resolve, 2));
    return new Response("later");
  },
};

export default definePlugin({
  name: "answers",
  schema: Type.Object({ action: Type.String(), phase: Type.String({ default: "access" }) }),
  rewrite: (ctx, { conf }) => (conf.phase === "rewrite" ? actions[conf.action]!(ctx) : undefined),
  access: (ctx, { conf }) => (conf.phase === "access" ? actions[conf.action]!(ctx) : undefined),
});
