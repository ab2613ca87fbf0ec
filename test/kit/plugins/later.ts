/** Uses a shared dictionary when the phase is over: in waitUntil, in a stream, in log. */
import { definePlugin, type SharedDict, Type } from "resty-ts";

async function countOnce(dict: SharedDict, key: string): Promise<number> {
  await dict.delete(key);
  return dict.incr(key, 1, 0);
}

export default definePlugin({
  name: "later",
  schema: Type.Object({ waits: Type.Boolean() }),
  access(ctx, { conf }) {
    const dict = ctx.shared("counts");
    const counted = countOnce(dict, "until").then((n) => {
      ctx.log.notice(`${n} in waitUntil`);
    });
    ctx.waitUntil(counted);
    const words = ["one", "two"];
    const response = new Response(
      new ReadableStream<Uint8Array>({
        async pull(controller) {
          const word = words.shift();
          if (word === undefined) controller.close();
          else {
            await counted;
            const n = await countOnce(dict, "stream");
            controller.enqueue(new TextEncoder().encode(`${word} ${n} `));
          }
        },
      }),
    );
    return conf.waits ? counted.then(() => response) : response;
  },
  async log(ctx) {
    ctx.log.notice(`${await countOnce(ctx.shared("counts"), "log")} in log`);
  },
});
