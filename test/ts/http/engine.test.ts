/** The engine without nginx: one message a phase, changes in order, questions, policies, streams. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import { Change, type Changes } from "../../../src/http/changes.ts";
import { HeadFlag } from "../../../src/http/head.ts";
import { PhaseNumber } from "../../../src/http/phases.ts";
import { definePlugin, type Plugin, type RestyTsError } from "../../../src/sdk/index.ts";
import { caller, head, open, runOnce } from "./support.ts";

describe("one message", () => {
  test("a handler that changes nothing answers null, at once", async () => {
    const changes = await runOnce(definePlugin({ name: "nothing", access() {} }));
    assert.equal(changes, null);
  });

  test("the request reads as nginx has it", async () => {
    let seen: unknown;
    await runOnce(
      definePlugin({
        name: "reader",
        access({ request }) {
          seen = [
            request.method,
            request.uri,
            request.path,
            request.headers.get("x-a"),
            request.headers.getAll("X-A"),
            [...request.headers].map(([name]) => name),
            request.query.get("x"),
            request.url.href,
            request.remoteAddress,
            request.httpVersion,
          ];
        },
      }),
    );
    assert.deepEqual(seen, [
      "GET",
      "/a%2Fb?x=1",
      "/a/b",
      "1, 2",
      ["1", "2"],
      ["Host", "X-A", "x-a"],
      "1",
      "http://example.org/a%2Fb?x=1",
      "127.0.0.1",
      "1.1",
    ]);
  });

  test("changes come back in the order they were made, the response's first where nginx may refuse", async () => {
    const changes = await runOnce(
      definePlugin({
        name: "writer",
        access(ctx) {
          ctx.request.headers.set("x-user", "jo");
          ctx.request.method = "POST";
          ctx.request.uri = "/new%20path?y=%C3%A9";
          ctx.request.headers.delete("x-a");
          ctx.var.set("target", "blue");
          ctx.ctx["user"] = { id: 7 };
          ctx.response.headers.append("set-cookie", "a=1");
        },
      }),
    );
    assert.deepEqual(changes, [
      // nginx may refuse the variable.
      ...[Change.handler, 0, "writer", 500, 22],
      ...[Change.ctx, "user", { id: 7 }],
      ...[Change.appendField, "set-cookie", "a=1"],
      ...[Change.requestField, "x-user", "jo"],
      ...[Change.method, "POST"],
      ...[Change.uri, "/new path", "y=%C3%A9", "/new%20path?y=%C3%A9", false],
      ...[Change.requestField, "x-a", null],
      ...[Change.variable, "target", "blue"],
    ]);
  });

  test("exit ends the chain, with JSON for an object", async () => {
    const second = definePlugin({ name: "second", access: () => assert.fail("it ran") });
    const { engine } = open(
      definePlugin({ name: "first", access: (ctx) => ctx.exit(401, { message: "no" }) }),
      second,
    );
    await engine.configure(1, [
      ["first", null],
      ["second", null],
    ]);
    const changes = (await engine.run(head(), null, null, null, caller())) as unknown[];
    assert.deepEqual(changes.slice(0, 5), [
      Change.responseField,
      "content-type",
      "application/json",
      Change.exit,
      401,
    ]);
    assert.equal(Buffer.from(changes[5] as Uint8Array).toString(), '{"message":"no"}');
  });

  test("a Response answers the client with its fields and its body", async () => {
    const changes = (await runOnce(
      definePlugin({
        name: "responds",
        access: () => new Response("hi", { status: 201, headers: { "x-b": "2" } }),
      }),
    )) as unknown[];
    assert.deepEqual(changes.slice(-3, -1), [Change.exit, 201]);
    assert.equal(Buffer.from(changes.at(-1) as Uint8Array).toString(), "hi");
    assert.ok(changes.includes("x-b"));
  });

  test("a Response's fields keep their names and empty values", async () => {
    const headers = { x_a: "1", "x-empty": "" };
    const changes = await runOnce(
      definePlugin({ name: "responds", access: () => new Response(null, { headers }) }),
    );
    assert.deepEqual(changes, [
      ...[Change.writeField, Change.responseField, "x-empty", [""]],
      ...[Change.writeField, Change.responseField, "x_a", ["1"]],
      ...[Change.exit, 200, null],
    ]);
  });

  test("a change that comes after the handler's end is an error in the log, and no change", async () => {
    const { engine, reports } = open(
      definePlugin({
        name: "late",
        access(ctx) {
          const later = new Promise((resolve) => setImmediate(resolve));
          ctx.waitUntil(later.then(() => ctx.request.headers.set("x-a", "1")));
        },
      }),
    );
    await engine.configure(1, [["late", null]]);
    assert.equal(await engine.run(head(), null, null, null, caller()), null);
    await engine.close([]);
    assert.deepEqual(reports, [
      "late access: TypeError: late access has ended: it can change nothing any more",
    ]);
  });

  test("what fetch brought is sent on as it is now, not as it came", async () => {
    const server = createServer((_, response) => {
      response.writeHead(200, { "content-encoding": "gzip", "x-own": "1", "keep-alive": "x" });
      response.end(gzipSync("decoded"));
    });
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    const { port } = server.address() as AddressInfo;
    const { engine } = open(
      definePlugin({ name: "forwards", access: () => fetch(`http://127.0.0.1:${port}/`) }),
    );
    await engine.configure(1, [["forwards", null]]);
    const changes = (await engine.run(head(), null, null, null, caller())) as unknown[];
    let text = Buffer.from(changes.at(-1) as Uint8Array).toString();
    if (changes.at(-4) === Change.stream) {
      for (let piece; (piece = await engine.pull(changes.at(-3) as number, caller())) !== null;)
        text += Buffer.from(piece).toString();
    }
    server.closeAllConnections();
    server.close();
    assert.equal(text, "decoded");
    assert.ok(changes.includes("x-own"));
    for (const name of ["content-encoding", "content-length", "connection", "keep-alive"]) {
      assert.ok(!changes.includes(name), name);
    }
  });

  test("plugins run in order of priority", async () => {
    const order: string[] = [];
    const make = (name: string, priority: number) =>
      definePlugin({ name, priority, access: () => void order.push(name) });
    const { engine } = open(make("low", 1), make("high", 9), make("also-low", 1));
    await engine.configure(1, [
      ["low", null],
      ["high", null],
      ["also-low", null],
    ]);
    await engine.run(head(), null, null, null, caller());
    assert.deepEqual(order, ["high", "low", "also-low"]);
  });
});

describe("questions", () => {
  const asking = definePlugin({
    name: "asking",
    async access(ctx) {
      const [uid, count] = await Promise.all([
        ctx.var.get("uid_got"),
        ctx.shared("counts").incr("k", 1, 0),
      ]);
      ctx.request.headers.set("x-count", `${String(uid)} ${count}`);
      ctx.request.headers.set("x-body", await ctx.request.text());
    },
  });

  test("those asked together travel together, and the handler goes on with the replies", async () => {
    const { engine } = open(asking);
    await engine.configure(1, [["asking", null]]);
    const first = (await engine.run(head(), null, null, null, caller())) as unknown[];
    assert.equal(first[0], Change.ask);
    assert.deepEqual(first[2], [
      ["var", "uid_got"],
      ["shared", "counts", "incr", "k", 1, 0, 0],
    ]);
    const second = (await engine.resume(
      first[1] as number,
      [
        [true, "abc"],
        [true, 5, null],
      ],
      caller(),
    )) as unknown[];
    assert.deepEqual(second, [Change.ask, first[1], [["body"]]]);
    const third = await engine.resume(
      first[1] as number,
      [[true, Buffer.from("body"), null]],
      caller(),
    );
    assert.deepEqual(third, [
      ...[Change.requestField, "x-count", "abc 5"],
      ...[Change.requestField, "x-body", "body"],
    ]);
    assert.deepEqual(engine.kept, { chains: 1, requests: 0, runs: 0, streams: 0, background: 0 });
  });

  test("a shared dictionary that a handler leaves to the background is asked", async () => {
    const results: unknown[] = [];
    const { engine } = open(
      definePlugin({
        name: "leaves",
        access(ctx) {
          ctx.waitUntil(
            ctx
              .shared("d")
              .incr("k", 1, 0)
              .then((n) => results.push(n)),
          );
        },
      }),
    );
    await engine.configure(1, [["leaves", null]]);
    assert.equal(await engine.run(head(), null, null, null, caller()), null);
    await engine.close(null);
    assert.deepEqual(results, ["shared d incr k 1 0 0"]);
  });

  test("a caller that goes away aborts the handler's signal and forgets the run", async () => {
    let signal: AbortSignal | undefined;
    const { engine } = open(
      definePlugin({
        name: "waits",
        async access(ctx) {
          signal = ctx.signal;
          await ctx.var.get("x");
        },
      }),
    );
    await engine.configure(1, [["waits", null]]);
    const first = (await engine.run(head(), null, null, null, caller())) as unknown[];
    assert.equal(first[0], Change.ask);
    engine.ended([1]);
    assert.ok(signal!.aborted);
    assert.equal(engine.kept.runs, 0);
  });
});

describe("policies", () => {
  const failing = (onError: "open" | "closed" | number) =>
    definePlugin({
      name: "failing",
      priority: 1,
      policies: { onError },
      access(ctx) {
        ctx.request.headers.set("x-half", "done");
        throw new Error("no luck");
      },
    });
  const after = definePlugin({
    name: "after",
    access(ctx) {
      ctx.request.headers.set("x-after", String(ctx.request.headers.get("x-half")));
    },
  });
  const both = async (onError: "open" | "closed" | number): Promise<Changes> => {
    const { engine } = open(failing(onError), after);
    await engine.configure(1, [
      ["failing", null],
      ["after", null],
    ]);
    return engine.run(head(), null, null, null, caller());
  };

  test("open goes on as if the plugin were not there", async () => {
    assert.deepEqual(await both("open"), [
      ...[Change.failed, "failing", 0, "Error: no luck"],
      ...[Change.requestField, "x-after", "null"],
    ]);
  });

  test("closed and a status end the phase", async () => {
    const tail = async (onError: "closed" | number) => (await both(onError))!.slice(-4);
    assert.deepEqual(await tail("closed"), [Change.failed, "failing", 500, "Error: no luck"]);
    assert.deepEqual(await tail(418), [Change.failed, "failing", 418, "Error: no luck"]);
  });

  test("a deadline of its own ends a handler and its signal", async () => {
    let reason: unknown;
    const { engine } = open(
      definePlugin({
        name: "slow",
        phases: { access: { timeoutMs: 5, onTimeout: 599 } },
        async access(ctx) {
          await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve));
          reason = ctx.signal.reason;
        },
      }),
    );
    await engine.configure(1, [["slow", null]]);
    const changes = (await engine.run(head(), null, null, null, caller())) as unknown[];
    assert.deepEqual(changes.slice(0, 3), [Change.failed, "slow", 599]);
    assert.equal((reason as RestyTsError).code, "timeout");
  });
});

describe("what may not be", () => {
  const refused: Record<string, (ctx: Parameters<NonNullable<Plugin["access"]>>[0]) => unknown> = {
    "a name that is no token": (ctx) => ctx.request.headers.set("bad name", "x"),
    "a value with CR and LF": (ctx) => ctx.response.headers.set("x-a", "a\r\nb: c"),
    "a value with NUL": (ctx) => ctx.request.headers.append("x-a", "a\0b"),
    "a value above U+00FF": (ctx) => ctx.request.headers.set("x-a", "\u20ac"),
    "a hop-by-hop field": (ctx) => ctx.response.headers.set("Transfer-Encoding", "chunked"),
    "a content-length": (ctx) => ctx.response.headers.set("content-length", "5"),
    "a status of 99": (ctx) => ctx.exit(99),
    "a status of 600": (ctx) => ctx.exit(600),
    "a status that is no integer": (ctx) => ctx.exit(200.5),
    "a body on 204": (ctx) => ctx.exit(204, "x"),
    "a body on 304": (ctx) => ctx.exit(304, "x"),
    "a content-length of a Response that is not its body's": () =>
      new Response("x", { headers: { "content-length": "7" } }),
    "a Response.error()": () => Response.error(),
    "a method with a space": (ctx) => (ctx.request.method = "GE T"),
    "a URI without a slash": (ctx) => (ctx.request.uri = "x"),
    "a URI with a line break": (ctx) => (ctx.request.uri = "/a\r\nb"),
    "a URI with %00": (ctx) => (ctx.request.uri = "/a%00b"),
  };
  for (const [title, access] of Object.entries(refused)) {
    test(`${title} is refused in words`, async () => {
      const changes = (await runOnce(
        definePlugin({ name: "bad", access: access as never }),
      )) as unknown[];
      const at = changes.indexOf(Change.failed);
      assert.deepEqual(changes.slice(at, at + 3), [Change.failed, "bad", 500]);
      assert.match(String(changes[at + 3]), /RestyTsError: .{20}/);
    });
  }

  test("another type than a handler may return is refused", async () => {
    const changes = (await runOnce(
      definePlugin({ name: "bad", access: (() => 42) as never }),
    )) as unknown[];
    assert.match(String(changes.at(-1)), /returned a number, and may return a Response/);
  });

  test("a definition is refused with all that is wrong with it", async () => {
    const { engine } = open({
      ...{ name: "bad", prority: 1, needs: { var: ["a"], ctx: "b" } },
      ...{ bufferResponse: { maxByte: 1 }, policies: { onErorr: "open" }, bodyFilter() {} },
    } as never);
    const error: unknown = await engine.configure(1, [["bad", null]]).catch((e: unknown) => e);
    assert.deepEqual((error as Error).message.split("; "), [
      "bad: there is no option or phase prority",
      "needs has no option var: vars, ctx",
      "needs.ctx is an array of names",
      "policies has no option onErorr: onError, onTimeout, onOverload",
      "bufferResponse has no option maxByte: maxBytes",
      "bufferResponse.maxBytes is a whole number of bytes from 1 on",
    ]);
  });
});

describe("phases that cannot wait", () => {
  const headerFilter = { phase: PhaseNumber.headerFilter, status: 200 };

  test("headerFilter edits status and fields", async () => {
    const changes = await runOnce(
      definePlugin({
        name: "edits",
        headerFilter(ctx) {
          assert.equal(ctx.response.headers.get("Server"), "x");
          ctx.response.status = 203;
          ctx.response.headers.set("x-served-by", "ts");
          ctx.response.headers.delete("server");
        },
      }),
      null,
      { ...headerFilter, responseFields: ["server", "x"] },
    );
    assert.deepEqual(changes, [
      ...[Change.responseField, "x-served-by", "ts"],
      ...[Change.responseField, "server", null],
      ...[Change.status, 203],
    ]);
  });

  test("an async handler is refused when it is loaded", async () => {
    const { engine } = open({ name: "late", headerFilter: (async () => {}) as never });
    await assert.rejects(engine.configure(1, [["late", null]]), {
      code: "bad_plugin",
      message: /headerFilter is an AsyncFunction, and the phase cannot wait/,
    });
  });

  test("a promise that a plain function returns is an error", async () => {
    const changes = (await runOnce(
      { name: "late", headerFilter: (() => Promise.resolve()) as never },
      null,
      headerFilter,
    )) as unknown[];
    assert.match(String(changes[3]), /returned a promise, and the phase cannot wait/);
    assert.equal(changes[2], 0, "open after the upstream");
  });

  test("what asks nginx is an error there", async () => {
    const changes = (await runOnce(
      {
        name: "asks",
        headerFilter: (ctx) => (ctx as never as { exit(s: number): void }).exit(403),
      },
      null,
      headerFilter,
    )) as unknown[];
    assert.match(String(changes[3]), /ctx.exit is not there in headerFilter, which cannot wait/);
  });

  test("a body goes through chunk by chunk, with state that lives as long", async () => {
    const { engine } = open(
      definePlugin({
        name: "counts",
        bodyFilter(ctx) {
          const before = (ctx.local.get("n") as number | undefined) ?? 0;
          ctx.local.set("n", before + ctx.chunk.length);
          if (ctx.last) return `${Buffer.from(ctx.chunk).toString()}!${before}`;
          return undefined;
        },
      }),
    );
    await engine.configure(1, [["counts", null]]);
    const phase = PhaseNumber.bodyFilter;
    const send = (flags: number, text: string) =>
      engine.run(head({ phase, flags }), null, null, Buffer.from(text), caller());
    assert.equal(await send(0, "abc"), null);
    assert.equal(await send(HeadFlag.continues, "de"), null);
    const last = (await send(HeadFlag.continues | HeadFlag.last, "f")) as unknown[];
    assert.equal(last[0], Change.chunk);
    assert.equal(Buffer.from(last[1] as Uint8Array).toString(), "f!5");
    assert.equal(engine.kept.requests, 1);
    engine.ended([1]);
    assert.equal(engine.kept.requests, 0);
  });
});

describe("streams", () => {
  const events = (count: number, cancelled: () => void) =>
    definePlugin({
      name: "sse",
      content: () => {
        let n = 0;
        return new Response(
          new ReadableStream<Uint8Array>({
            async pull(controller) {
              await new Promise((resolve) => setImmediate(resolve));
              if (n === count) controller.close();
              else controller.enqueue(new TextEncoder().encode(`data: ${n++}\n\n`));
            },
            cancel: cancelled,
          }),
        );
      },
    });
  const content = { phase: PhaseNumber.content };

  test("are pulled piece by piece to their end", async () => {
    const { engine } = open(events(5, () => {}));
    await engine.configure(1, [["sse", null]]);
    const changes = (await engine.run(head(content), null, null, null, caller())) as unknown[];
    assert.equal(changes.at(-4), Change.stream);
    let text = Buffer.from(changes.at(-1) as Uint8Array).toString();
    for (;;) {
      const piece = await engine.pull(changes.at(-3) as number, caller());
      if (piece === null) break;
      text += Buffer.from(piece).toString();
    }
    assert.equal(text, [0, 1, 2, 3, 4].map((n) => `data: ${n}\n\n`).join(""));
    assert.equal(engine.kept.streams, 0);
  });

  test("are cancelled when their request ends", async () => {
    let cancelled = false;
    const { engine } = open(events(1e9, () => (cancelled = true)));
    await engine.configure(1, [["sse", null]]);
    const changes = (await engine.run(head(content), null, null, null, caller())) as unknown[];
    await engine.pull(changes.at(-3) as number, caller());
    engine.ended([1]);
    await new Promise((resolve) => setImmediate(resolve));
    assert.ok(cancelled);
    assert.equal(engine.kept.streams, 0);
  });
});
