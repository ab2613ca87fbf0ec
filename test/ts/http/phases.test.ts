/** The two phases that are APISIX's: beforeProxy, which may wait, and delayedBodyFilter. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Change } from "../../../src/http/changes.ts";
import { HeadFlag } from "../../../src/http/head.ts";
import { PhaseNumber } from "../../../src/http/phases.ts";
import { definePlugin, type Log, type Plugin } from "../../../src/sdk/index.ts";
import { testChain, testPlugin } from "../../../src/testing/index.ts";
import { caller, head, open, runOnce } from "./support.ts";

describe("beforeProxy", () => {
  const phase = PhaseNumber.beforeProxy;
  const run = (beforeProxy: unknown, rest: Partial<Plugin> = {}) =>
    runOnce({ name: "late", beforeProxy: beforeProxy as never, ...rest }, null, { phase });

  test("may ask nginx", async () => {
    const changes = (await run((ctx: never) =>
      (ctx as { var: { get(name: string): Promise<unknown> } }).var.get("upstream_addr"),
    )) as unknown[];
    assert.deepEqual(changes, [Change.ask, 1, [["var", "upstream_addr"]]]);
  });

  test("may change the request and answer", async () => {
    const plugin = definePlugin({
      name: "late",
      async beforeProxy(ctx) {
        await Promise.resolve();
        ctx.request.headers.set("x-a", "3");
        ctx.response.headers.append("x-b", "4");
        return ctx.exit(403);
      },
    });
    assert.deepEqual(await runOnce(plugin, null, { phase }), [
      ...[Change.appendField, "x-b", "4"],
      ...[Change.requestField, "x-a", "3"],
      ...[Change.exit, 403, null],
    ]);
  });

  test("is closed by default, as what is before the upstream", async () => {
    const changes = (await run(() => {
      throw new Error("no luck");
    })) as unknown[];
    assert.deepEqual(changes.slice(0, 3), [Change.failed, "late", 500]);
    const { engine } = open({ name: "late", beforeProxy() {} });
    const { phases } = await engine.configure(1, [["late", null]]);
    const described = phases["before_proxy"];
    assert.deepEqual(
      [described?.on_error, described?.on_timeout, described?.on_overload],
      [500, 504, 503],
    );
  });

  test("has the chain's order, after all access handlers and before content", async () => {
    const trail = (name: string, priority: number, rest: Partial<Plugin> = {}): Plugin => ({
      name,
      priority,
      access: ({ log }) => log.info("access"),
      beforeProxy: ({ log }) => log.info("beforeProxy"),
      ...rest,
    });
    const said = async (...plugins: Plugin[]): Promise<string[]> => {
      const kit = await testChain(plugins.map((plugin) => ({ plugin })));
      const { log } = await kit.request({
        upstream: () => {
          assert.equal(kit.log.at(-1)?.text, "beforeProxy");
          return {};
        },
      });
      await kit.close();
      return log.map(({ plugin, text }) => `${plugin} ${text}`);
    };
    assert.deepEqual(await said(trail("low", 1), trail("high", 2)), [
      ...["high access", "low access", "high beforeProxy", "low beforeProxy"],
    ]);
    const content = ({ log }: { log: Log }): Response => {
      log.info("content");
      return new Response("x");
    };
    assert.deepEqual(await said(trail("answers", 1, { content })), [
      ...["answers access", "answers beforeProxy", "answers content"],
    ]);
  });

  test("that answers keeps the upstream from being asked", async () => {
    const plugin = definePlugin({ name: "late", beforeProxy: () => new Response("mine") });
    const kit = await testPlugin(plugin);
    const { response, upstreamRequest, crossings } = await kit.request();
    await kit.close();
    assert.equal(response.text(), "mine");
    assert.equal(upstreamRequest, undefined);
    assert.deepEqual(crossings, { beforeProxy: 1 });
  });
});

describe("delayedBodyFilter", () => {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString();
  const both = definePlugin({
    name: "both",
    bodyFilter: (ctx) => `${text(ctx.chunk)}1`,
    delayedBodyFilter: (ctx) => `${text(ctx.chunk)}2${ctx.last ? "." : ""}`,
  });

  test("cannot wait", async () => {
    const { engine } = open({ name: "late", delayedBodyFilter: (async () => {}) as never });
    await assert.rejects(engine.configure(1, [["late", null]]), {
      code: "bad_plugin",
      message: /delayedBodyFilter is an AsyncFunction, and the phase cannot wait/,
    });
  });

  test("may change neither request nor response, and is open by default", async () => {
    for (const act of [
      (ctx: never) => ((ctx as { request: { method: string } }).request.method = "PUT"),
      (ctx: never) => ((ctx as { response: { status: number } }).response.status = 201),
    ]) {
      const plugin = { name: "late", delayedBodyFilter: act as never };
      const phase = PhaseNumber.delayedBodyFilter;
      const changes = (await runOnce(plugin, null, { phase, status: 200 })) as unknown[];
      assert.deepEqual(changes.slice(0, 3), [Change.failed, "late", 0]);
      assert.match(String(changes[3]), /TypeError: the (request has been answered|response's)/);
    }
  });

  test("goes on with its own run beside bodyFilter's, for one token and request", async () => {
    const { engine } = open(both);
    const { phases } = await engine.configure(1, [["both", null]]);
    assert.deepEqual(Object.keys(phases), ["body_filter", "delayed_body_filter"]);
    const send = async (phase: number, flags: number, piece: string): Promise<string> => {
      const bytes = Buffer.from(piece);
      const changes = await engine.run(head({ phase, flags }), null, null, bytes, caller());
      return text(changes![changes!.indexOf(Change.chunk) + 1] as Uint8Array);
    };
    const { bodyFilter, delayedBodyFilter } = PhaseNumber;
    const { continues, last } = HeadFlag;
    assert.equal(await send(bodyFilter, 0, "a"), "a1");
    assert.equal(await send(delayedBodyFilter, 0, "b"), "b2");
    assert.equal(await send(bodyFilter, continues | last, "c"), "c1");
    assert.equal(await send(delayedBodyFilter, continues, "d"), "d2");
    assert.equal(await send(delayedBodyFilter, continues | last, "e"), "e2.");
    engine.ended([1]);
    assert.equal(engine.kept.requests, 0);
  });

  test("gets what bodyFilter has made of each piece", async () => {
    const kit = await testPlugin(both);
    const { response } = await kit.request({ upstream: () => ({ body: ["a", "b"] }) });
    await kit.close();
    assert.deepEqual(response.chunks.map(text), ["a12", "b12", "12."]);
  });

  test("gets the whole of a body that bodyFilter has collected, and is not collected for", async () => {
    const whole = { ...both, name: "whole", bufferResponse: { maxBytes: 100 } };
    const { engine } = open(whole);
    const { phases } = await engine.configure(1, [["whole", null]]);
    assert.equal(phases["body_filter"]?.buffer_bytes, 100);
    assert.equal(phases["delayed_body_filter"]?.buffer_bytes, null);
    const kit = await testPlugin(whole);
    const { response, crossings } = await kit.request({ upstream: () => ({ body: ["a", "b"] }) });
    await kit.close();
    assert.equal(response.text(), "ab12.");
    assert.deepEqual(crossings, { bodyFilter: 1, delayedBodyFilter: 1 });
  });

  test("goes on when bodyFilter has failed, with the pieces as they came", async () => {
    const failing = definePlugin({
      ...both,
      bodyFilter() {
        throw new Error("no luck");
      },
    });
    const kit = await testPlugin(failing);
    const { response, errors } = await kit.request({ upstream: () => ({ body: ["a", "b"] }) });
    await kit.close();
    assert.equal(response.text(), "a2b22.");
    assert.deepEqual(new Set(errors.map(({ phase }) => phase)), new Set(["bodyFilter"]));
  });
});
