/** Responses that are made while they are sent: to slow clients, many clients, clients that leave. */
import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { describe, test } from "node:test";
import { until } from "../../support/deadline.js";
import type { Nginx } from "../../support/nginx.js";
import { rssOf } from "../../support/proc.js";
import { keptOf, untilNothingKept, withPlugins } from "../../support/plugins.js";

const CLIENTS = 200;
const EVENTS = 10_000;
const MiB = 1_048_576;

/** Bytes that make each event as large as a token of an AI's answer with its JSON around it. */
const FILLING = 300;

function eventText(n: number): string {
  return `id: ${String(n)}\ndata: event ${String(n)} of many ${"x".repeat(FILLING)}\n\n`;
}

const events = `
  import { definePlugin } from "resty-ts";
  const encoder = new TextEncoder();
  const filling = "x".repeat(${String(FILLING)});
  let produced = 0;
  export default definePlugin({
    name: "events",
    access: (ctx) => respond(ctx),
    content: (ctx) => respond(ctx),
  });
  function respond(ctx) {
      if (ctx.request.path === "/produced") return ctx.exit(200, String(produced));
      const count = Number(ctx.request.query.get("count"));
      let n = 0;
      return new Response(
        new ReadableStream({
          pull(controller) {
            if (n === count) return controller.close();
            produced++;
            controller.enqueue(encoder.encode(\`id: \${n}\\ndata: event \${n++} of many \${filling}\\n\\n\`));
          },
        }, { highWaterMark: 0 }),
        { headers: { "content-type": "text/event-stream", "cache-control": "no-store" } },
      );
  }`;

const locations = {
  "/events": `
    lua_socket_log_errors off;
    content_by_lua_block { require("resty.ts.http").content("events") }`,
  "/produced": `content_by_lua_block { require("resty.ts.http").content("events") }`,
};
/** Small buffers, so that a client that does not read is felt at once. */
const server = "lua_check_client_abort on; postpone_output 0;";

/** The body of a chunked HTTP/1.1 response. */
function unchunk(text: string): { body: string; ended: boolean } {
  let at = text.indexOf("\r\n\r\n") + 4;
  let body = "";
  for (;;) {
    const line = text.indexOf("\r\n", at);
    if (line < 0) return { body, ended: false };
    const size = Number.parseInt(text.slice(at, line), 16);
    if (size === 0) return { body, ended: true };
    body += text.slice(line + 2, line + 2 + size);
    at = line + 2 + size + 2;
  }
}

function open(nginx: Nginx, path: string): Socket {
  const socket =
    nginx.socketPath === undefined ? connect(nginx.port!, "127.0.0.1") : connect(nginx.socketPath);
  socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
  return socket;
}

/** Reads a piece, then nothing for a while, and so on. */
function readSlowly(nginx: Nginx, path: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = open(nginx, path);
    const pieces: Buffer[] = [];
    socket.on("data", (piece: Buffer) => {
      pieces.push(piece);
      socket.pause();
      setTimeout(() => socket.resume(), 20);
    });
    socket.on("end", () => {
      resolve(Buffer.concat(pieces).toString());
    });
    socket.on("error", reject);
  });
}

describe("server-sent events", () => {
  test("10,000 reach each of 200 slow clients, in order, none lost, in bounded memory", () =>
    withPlugins({ events }, { locations, server }, async (nginx) => {
      const expected = Array.from({ length: EVENTS }, (_, n) => eventText(n)).join("");
      /** @returns the most memory that the worker had while all clients read all events. */
      const round = async (): Promise<number> => {
        let most = 0;
        const watch = setInterval(() => {
          most = Math.max(most, rssOf(nginx.workerPid()));
        }, 20);
        const texts = await Promise.all(
          Array.from({ length: CLIENTS }, () =>
            readSlowly(nginx, `/events?count=${String(EVENTS)}`),
          ),
        );
        clearInterval(watch);
        for (const text of texts) {
          const { body, ended } = unchunk(text);
          assert.ok(ended, `the stream broke off: ${text.slice(0, 200)} … ${text.slice(-200)}`);
          assert.ok(body === expected, "events are missing, or out of order");
        }
        return most;
      };
      const most = await round();
      // All that is sent would be far more, had it to be held for the clients.
      assert.ok(expected.length * CLIENTS > 600 * MiB);
      assert.ok(most < 512 * MiB, `the worker had ${String(most / MiB)} MiB`);
      await untilNothingKept(nginx);
    }));

  test("a client that does not read holds its handler back", () =>
    withPlugins({ events }, { locations, server }, async (nginx) => {
      const produced = async (): Promise<number> => Number((await nginx.ask("/produced")).text);
      const socket = open(nginx, "/events?count=1000000000");
      socket.pause();
      // What fits into the kernel's and nginx's buffers, then no more.
      let last = -1;
      let same = 0;
      await until("no more events are made", async () => {
        const now = await produced();
        same = now === last && now > 0 ? same + 1 : 0;
        last = now;
        return same >= 20;
      });
      assert.ok(last < 1_000_000, `${String(last)} events for a client that reads none`);
      assert.equal((await keptOf(nginx)).streams, 1);
      socket.destroy();
      await untilNothingKept(nginx);
    }));

  test("slow clients read on where a body filter is in the way, too", () =>
    withPlugins(
      { events },
      {
        listen: "unix",
        locations: {
          "/events": `
            access_by_lua_block { require("resty.ts.http").access("events") }
            body_filter_by_lua_block { require("resty.ts.http").body_filter("events") }`,
        },
      },
      async (nginx) => {
        const texts = await Promise.all(
          Array.from({ length: 20 }, () => readSlowly(nginx, `/events?count=${String(EVENTS)}`)),
        );
        for (const text of texts) {
          const { body, ended } = unchunk(text);
          assert.ok(ended, "the stream broke off");
          assert.equal(body.split("\n\n").length, EVENTS + 1);
        }
        await untilNothingKept(nginx);
      },
    ));

  test("clients that leave leave nothing behind", () =>
    withPlugins({ events }, { locations, server }, async (nginx) => {
      await Promise.all(
        Array.from(
          { length: 50 },
          () =>
            new Promise<void>((resolve) => {
              const socket = open(nginx, "/events?count=1000000000");
              socket.once("data", () => socket.destroy());
              socket.once("close", () => {
                resolve();
              });
            }),
        ),
      );
      await untilNothingKept(nginx);
      assert.match((await nginx.ask("/events?count=3")).text, /event 2/);
    }));

  test("a stream that fails breaks off, and says so in the log", () =>
    withPlugins(
      {
        broken: `
          import { definePlugin } from "resty-ts";
          export default definePlugin({
            name: "broken",
            content() {
              let n = 0;
              return new Response(new ReadableStream({
                async pull(controller) {
                  await new Promise((resolve) => setImmediate(resolve));
                  if (n++ === 3) throw new Error("the source dried up");
                  controller.enqueue(new TextEncoder().encode("x"));
                },
              }));
            },
          });`,
      },
      {
        locations: {
          "/broken": `content_by_lua_block { require("resty.ts.http").content("broken") }`,
        },
        allowLog: [/the source dried up/],
      },
      async (nginx) => {
        const socket = open(nginx, "/broken");
        let text = "";
        for await (const piece of socket) text += String(piece);
        const { body, ended } = unchunk(text);
        assert.equal(body, "xxx");
        assert.ok(!ended, "the client was told that the response is whole");
        await nginx.waitForLog(/broken.*the source dried up/);
        await untilNothingKept(nginx);
      },
    ));
});
