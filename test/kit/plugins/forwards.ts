/** Asks an origin by fetch and answers with what it makes of that: /HOW/CODING of the request's path. */
import { Readable } from "node:stream";
import {
  brotliCompressSync,
  createBrotliCompress,
  deflateRawSync,
  deflateSync,
  gzipSync,
} from "node:zlib";
import { definePlugin, type RequestContext, Type } from "resty-ts";

type Make = (ask: () => Promise<Response>, ctx: RequestContext) => Promise<Response> | Response;

const encoded = (coding: string, body: ConstructorParameters<typeof Response>[0]): Response =>
  new Response(body, { headers: { "content-encoding": coding } });
const TEXT = "the plugin's own text, ".repeat(100);
const textStream = (): ReadableStream<Uint8Array> => new Response(TEXT).body!;
const HOP_BY_HOP = {
  connection: "close, X-Named",
  "keep-alive": "timeout=5",
  "proxy-connection": "close",
  te: "trailers",
  trailer: "x-sum",
  "transfer-encoding": "chunked",
  upgrade: "h2c",
  "x-named": "1",
  "x-kept": "1",
};

const hows: Record<string, Make> = {
  returned: (ask) => ask(),
  copied: async (ask) => {
    const answer = await ask();
    return new Response(answer.body, answer);
  },
  cloned: async (ask) => {
    const clone = (await ask()).clone();
    return new Response(clone.body, clone);
  },
  twice: async (ask) => {
    const answer = await ask();
    const { body, headers } = new Response(answer.body, answer);
    return new Response(body, { headers: [...headers] });
  },
  text: async (ask) => {
    const answer = await ask();
    return new Response(await answer.text(), { headers: new Headers(answer.headers) });
  },
  piped: async (ask) => {
    const answer = await ask();
    return new Response(answer.body!.pipeThrough(new TransformStream()), answer);
  },
  compressed: async (ask) => {
    const { body, headers } = await ask();
    const fields = new Headers(headers);
    fields.set("content-encoding", "gzip");
    fields.delete("content-length");
    return new Response(body!.pipeThrough(new CompressionStream("gzip")), { headers: fields });
  },
  "own-gzip": () => encoded("gzip", gzipSync(TEXT)),
  "own-deflate": () => encoded("deflate", deflateSync(TEXT)),
  "own-deflate-raw": () => encoded("deflate", deflateRawSync(TEXT)),
  "own-br": () => encoded("br", brotliCompressSync(TEXT)),
  "own-other": () => encoded("x-own", TEXT),
  "own-stream-gzip": () => encoded("gzip", textStream().pipeThrough(new CompressionStream("gzip"))),
  "own-stream-br": () => {
    const source = Readable.from([Buffer.from(TEXT)]).pipe(createBrotliCompress());
    return encoded("br", Readable.toWeb(source));
  },
  "not-gzip": () => encoded("gzip", TEXT),
  "hop-by-hop": () => new Response(TEXT, { headers: HOP_BY_HOP }),
};

export default definePlugin({
  name: "forwards",
  schema: Type.Object({ origin: Type.String() }),
  access(ctx, { conf }) {
    const [, how = "", coding = ""] = ctx.request.path.split("/");
    const method = ctx.request.method;
    return hows[how]!(() => fetch(`${conf.origin}/${coding}`, { method }), ctx);
  },
});
