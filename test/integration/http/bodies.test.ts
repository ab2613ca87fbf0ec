/** Large bodies through plugins: byte-exact, and never in memory as a whole. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, test } from "node:test";
import { Client } from "undici";
import type { Nginx } from "../../support/nginx.js";
import { untilNothingKept, withPlugins } from "../../support/plugins.js";

const MiB = 1_048_576;
const TOTAL = 100 * MiB;
/** Until the heap has the size that it keeps with such bodies. */
const WARM_UP = 32 * MiB;
const MAX_GROWTH = 32 * MiB;

/** The same bytes each time, no two blocks alike. */
function* body(total: number): Generator<Buffer, undefined> {
  let state = 0x12345678;
  for (let sent = 0; sent < total;) {
    const block = Buffer.alloc(Math.min(65_521, total - sent));
    for (let i = 0; i + 4 <= block.length; i += 4) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      block.writeUInt32LE(state, i);
    }
    sent += block.length;
    yield block;
  }
  return undefined;
}

function hashOf(blocks: Iterable<Uint8Array>): string {
  const hash = createHash("sha256");
  for (const block of blocks) hash.update(block);
  return hash.digest("hex");
}

function statusOf(pid: number, field: string): number {
  const text = readFileSync(`/proc/${String(pid)}/status`, "utf8");
  return Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(text)![1]) * 1024;
}

/** How far the worker's memory rises above what it has now while `action` runs. */
async function growthDuring(nginx: Nginx, action: () => Promise<void>): Promise<number> {
  const pid = nginx.workerPid();
  writeFileSync(`/proc/${String(pid)}/clear_refs`, "5"); // the peak begins anew
  const baseline = statusOf(pid, "VmRSS");
  await action();
  return statusOf(pid, "VmHWM") - baseline;
}

let upstream: Server;
let address = "";

before(async () => {
  upstream = createServer((request, response) => {
    const [, kind, bytes] = /^\/(\w+)\/(\d+)/.exec(request.url!) as unknown as string[];
    if (kind === "download") {
      const blocks = body(Number(bytes));
      const more = (): void => {
        for (;;) {
          const { value, done } = blocks.next();
          if (done === true) return void response.end();
          if (!response.write(value)) return void response.once("drain", more);
        }
      };
      more();
      return;
    }
    const hash = createHash("sha256");
    request.on("data", (chunk: Buffer) => hash.update(chunk));
    request.on("end", () => {
      response.setHeader("x-plugin-saw", String(request.headers["x-sha256"]));
      response.end(hash.digest("hex"));
    });
  });
  await new Promise<void>((resolve) => upstream.listen(0, "127.0.0.1", resolve));
  address = `127.0.0.1:${String((upstream.address() as AddressInfo).port)}`;
});

after(() => {
  upstream.closeAllConnections();
  upstream.close();
});

const hashing = `
  import { createHash } from "node:crypto";
  import { definePlugin } from "resty-ts";
  export default definePlugin({
    name: "hashing",
    async access(ctx) {
      const hash = createHash("sha256");
      for await (const chunk of ctx.request.body) hash.update(chunk);
      ctx.request.headers.set("x-sha256", hash.digest("hex"));
    },
  });`;

const inverting = `
  import { definePlugin } from "resty-ts";
  export default definePlugin({
    name: "inverting",
    // A busy machine is late now and then.
    phases: { headerFilter: { timeoutMs: 10_000 }, bodyFilter: { timeoutMs: 10_000 } },
    headerFilter(ctx) { ctx.response.headers.set("x-inverted", "yes"); },
    bodyFilter({ chunk }) {
      const out = new Uint8Array(chunk.length);
      for (let i = 0; i < chunk.length; i++) out[i] = chunk[i]! ^ 0xff;
      return out;
    },
  });`;

describe("a body of 100 MiB", () => {
  test("goes up through a plugin that reads it as a stream", () =>
    withPlugins(
      { hashing },
      {
        locations: {
          "/upload/": `
            client_body_buffer_size 64k;
            access_by_lua_block { require("resty.ts.http").access("hashing") }
            proxy_http_version 1.1;
            proxy_pass http://${address};`,
        },
      },
      async (nginx) => {
        const upload = async (bytes: number): Promise<void> => {
          const client = new Client(nginx.url);
          const answer = await client.request({
            method: "POST",
            path: `/upload/${String(bytes)}`,
            body: body(bytes) as unknown as Buffer,
            headers: { "content-length": String(bytes) },
          });
          const text = await answer.body.text();
          assert.equal(answer.statusCode, 200);
          assert.equal(text, hashOf(body(bytes)), "the upstream has other bytes");
          assert.equal(answer.headers["x-plugin-saw"], text, "the plugin has other bytes");
          await client.close();
        };
        await upload(WARM_UP);
        const growth = await growthDuring(nginx, () => upload(TOTAL));
        assert.ok(growth < MAX_GROWTH, `the worker grew by ${String(growth / MiB)} MiB`);
        await untilNothingKept(nginx);
      },
    ));

  test("comes down through a body filter", () =>
    withPlugins(
      { inverting },
      {
        locations: {
          "/download/": `
            header_filter_by_lua_block { require("resty.ts.http").header_filter("inverting") }
            body_filter_by_lua_block { require("resty.ts.http").body_filter("inverting") }
            proxy_http_version 1.1;
            proxy_pass http://${address};`,
        },
      },
      async (nginx) => {
        const download = async (bytes: number): Promise<void> => {
          const client = new Client(nginx.url);
          const answer = await client.request({
            method: "GET",
            path: `/download/${String(bytes)}`,
          });
          assert.equal(answer.headers["x-inverted"], "yes");
          const hash = createHash("sha256");
          let length = 0;
          for await (const chunk of answer.body as AsyncIterable<Buffer>) {
            length += chunk.length;
            hash.update(chunk.map((byte) => byte ^ 0xff));
          }
          assert.equal(length, bytes);
          assert.equal(hash.digest("hex"), hashOf(body(bytes)));
          await client.close();
        };
        await download(WARM_UP);
        const growth = await growthDuring(nginx, () => download(TOTAL));
        assert.ok(growth < MAX_GROWTH, `the worker grew by ${String(growth / MiB)} MiB`);
        await untilNothingKept(nginx);
      },
    ));
});
