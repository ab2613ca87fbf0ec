/** Reads the request's body in one way or the other, and tells the upstream what it was. */
import { createHash } from "node:crypto";
import { definePlugin, type RequestContext, Type } from "resty-ts";

const sha = (bytes: Uint8Array): string =>
  createHash("sha256").update(bytes).digest("hex").slice(0, 16);

const actions: Record<string, (ctx: RequestContext) => Promise<unknown>> = {
  bytes: async ({ request }) => {
    const bytes = await request.bytes(1 << 24);
    return [bytes.length, sha(bytes)];
  },
  stream: async ({ request }) => {
    const hash = createHash("sha256");
    let length = 0;
    for await (const piece of request.body as unknown as AsyncIterable<Uint8Array>) {
      hash.update(piece);
      length += piece.length;
    }
    return [length, hash.digest("hex").slice(0, 16)];
  },
  text: ({ request }) => request.text(),
  json: ({ request }) => request.json(),
  form: async ({ request }) => {
    const fields: unknown[] = [];
    for (const [name, value] of await request.formData()) {
      fields.push([
        name,
        typeof value === "string" ? value : [value.name, value.type, await value.text()],
      ]);
    }
    return fields;
  },
  "too-large": ({ request }) => request.bytes(10),
  caught: ({ request }) =>
    request.json().catch((error: unknown) => (error as { code: string }).code),
  fetch: async ({ request }) => {
    const made = request.toRequest();
    return [made.method, new URL(made.url).pathname, await made.text()];
  },
};

export default definePlugin({
  name: "reads",
  schema: Type.Object({ action: Type.String() }),
  async access(ctx, { conf }) {
    const seen = await actions[conf.action]!(ctx);
    ctx.request.headers.set("X-Seen", JSON.stringify(seen).replace(/[^ -~]/g, "?"));
  },
});
