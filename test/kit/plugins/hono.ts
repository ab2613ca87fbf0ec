/** A Hono application as a plugin. */
import { Hono } from "hono";
import { streamSSE, streamText } from "hono/streaming";
import { definePlugin } from "resty-ts";

const app = new Hono();
app.get("/sse", (c) =>
  streamSSE(c, async (stream) => {
    for (const id of ["1", "2", "3"]) await stream.writeSSE({ id, data: `event ${id}` });
  }),
);
app.get("/text", (c) =>
  streamText(c, async (stream) => {
    for (const word of ["one", "two", "three"]) await stream.writeln(word);
  }),
);
app.post("/json", async (c) => c.json({ host: new URL(c.req.url).host, got: await c.req.json() }));
app.delete("/gone", async (c) => c.text(`${c.req.raw.method} [${await c.req.text()}]`));

export default definePlugin({
  name: "hono",
  access: (ctx) => app.fetch(ctx.request.toRequest()),
});
