/** What the kit has beside nginx's semantics: its interface, its clock, its errors, its end. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { definePlugin, type Phase, type RequestContext, Type } from "../../../src/sdk/index.ts";
import { type KitOptions, testChain, testPlugin } from "../../../src/testing/index.ts";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");

/** A kit for one access handler. */
const accessing = (access: (ctx: RequestContext) => unknown, options: KitOptions = {}) =>
  testPlugin(definePlugin({ name: "one", access: access as never }), undefined, options);

const ticks = (count: number, cancelled: () => void) =>
  definePlugin({
    name: "ticks",
    content() {
      let n = 0;
      return new Response(
        new ReadableStream<Uint8Array>({
          async pull(controller) {
            await new Promise((resolve) => setImmediate(resolve));
            if (n === count) controller.close();
            else controller.enqueue(new TextEncoder().encode(`${n++} `));
          },
          cancel: cancelled,
        }),
        { headers: { "content-type": "text/event-stream" } },
      );
    },
  });

describe("configurations", () => {
  const greets = definePlugin({
    name: "greets",
    schema: Type.Object({ name: Type.String({ default: "world" }), loud: Type.Boolean() }),
    setup: (conf, { log }) => {
      log.info("setup %s", conf.name);
      return conf.loud ? "!" : ".";
    },
    teardown: ({ state }, { log }) => {
      log.info("teardown", state);
    },
    access: (ctx, { conf, state }) => ctx.exit(200, `hello ${conf.name}${state}`),
  });

  test("have the schema's defaults, between setup and teardown", async () => {
    const kit = await testPlugin(greets, { loud: true });
    const { response, upstreamRequest } = await kit.request();
    assert.equal(response.text(), "hello world!");
    assert.equal(upstreamRequest, undefined);
    await kit.close();
    assert.deepEqual(
      kit.log.map(({ text }) => text),
      ["setup world", "teardown !"],
    );
  });

  test("that the schema refuses are told in words", async () => {
    await assert.rejects(testPlugin(greets), { code: "bad_config", message: /loud is missing/ });
  });

  test("of a plugin that is none are told, too", async () => {
    const bad = { name: "bad", acces: () => undefined };
    await assert.rejects(testPlugin(bad), { code: "bad_plugin", message: /phase acces/ });
  });

  test("of two plugins of one name are refused", async () => {
    const make = () => ({ plugin: definePlugin({ name: "one", access() {} }) });
    const one = make();
    await assert.rejects(testChain([one, make()]), /two plugins of the chain are named one/);
    await (await testChain([one, one])).close();
  });

  test("of a chain may say more than the plugin", async () => {
    const fails = definePlugin({
      name: "fails",
      access() {
        throw new Error("no");
      },
    });
    const kit = await testChain([{ plugin: fails, options: { onError: 422 } }, { plugin: fails }]);
    const { response, errors } = await kit.request();
    assert.equal(response.status, 422);
    assert.deepEqual(response.problem, {
      type: "about:blank",
      title: "Unprocessable Content",
      status: 422,
      request_id: response.problem?.request_id,
    });
    assert.deepEqual(
      errors.map(({ plugin, phase, status }) => [plugin, phase, status]),
      [["fails", "access", 422]],
    );
    assert.match(errors[0]!.text, /Error: no\n +at .*kit\.test\.ts/);
    await kit.close();
  });
});

describe("requests", () => {
  test("take a form, JSON or bytes as their body", async () => {
    const kit = await accessing(() => undefined);
    const form = new FormData();
    form.set("a", "1");
    for (const [request, type, body] of [
      [{ body: new URLSearchParams({ a: "1 2" }) }, /^application\/x-www-form/, /^a=1\+2$/],
      [{ body: form }, /^multipart\/form-data; boundary=/, /name="a"\r\n\r\n1\r\n/],
      [{ json: { a: [1] } }, /^application\/json$/, /^\{"a":\[1\]\}$/],
      [{ body: "text", headers: { "content-type": "x/y" } }, /^x\/y$/, /^text$/],
    ] as const) {
      const { upstreamRequest } = await kit.request(request);
      assert.equal(upstreamRequest?.method, "POST");
      assert.match(upstreamRequest.headers.get("content-type") ?? "", type);
      assert.match(upstreamRequest.text(), body);
    }
    await kit.close();
  });

  test("have nginx's host, which says nothing of path and query", async () => {
    const kit = await accessing(({ request: { url, query } }) =>
      Response.json([url.href, [...query]]),
    );
    for (const [url, host, expected] of [
      ["/api?admin=1", "x#", "http://localhost/api?admin=1"],
      ["/api?admin=1", "x?role=admin&z=", "http://localhost/api?admin=1"],
      ["/api?admin=1", "u:p@x", "http://u/api?admin=1"],
      ["/api?admin=1", "A.example:8080", "http://a.example:8080/api?admin=1"],
      ["https://other.example/api?admin=1", "a.example", "https://other.example/api?admin=1"],
    ] as const) {
      const { response } = await kit.request({ url, headers: { host } });
      assert.deepEqual(response.json(), [expected, [["admin", "1"]]], host);
    }
    for (const host of ["", "x/y", "a..b"]) {
      await assert.rejects(kit.request({ headers: { host } }), TypeError, host);
    }
    await kit.close();
  });

  test("that nginx would not take are refused", async () => {
    const kit = await accessing(() => undefined);
    for (const url of ["/a%zz", "/%00", "/a/../../b", "/a b", "nowhere"]) {
      await assert.rejects(kit.request({ url }), TypeError, url);
    }
    await assert.rejects(kit.request({ headers: { "bad name": "x" } }), /no field name/);
    await assert.rejects(kit.request({ headers: { a: "\u20ac" } }), /not one line of bytes/);
    await assert.rejects(kit.request({ body: "x", json: 1 }), /a body or json, not both/);
    await kit.close();
  });

  test("may come over https from anywhere", async () => {
    const kit = await accessing(({ request }) => {
      const { url, remoteAddress, httpVersion, path: seen } = request;
      return Response.json([url.href, remoteAddress, httpVersion, seen]);
    });
    const { response } = await kit.request({
      url: "https://example.org/caf%C3%A9?x",
      remoteAddress: "2001:db8::1",
      httpVersion: "2.0",
    });
    assert.deepEqual(response.json(), [
      "https://example.org/caf%C3%A9?x",
      "2001:db8::1",
      "2.0",
      "/caf\u00e9",
    ]);
    await kit.close();
  });

  test("have fields with Fetch's reading methods, and cookies and variables of their own", async () => {
    const kit = await testPlugin(
      definePlugin({
        name: "reads",
        needs: { vars: ["known"] },
        async access(ctx) {
          const { headers, cookies } = ctx.request;
          const visited: unknown[] = [];
          headers.forEach((value, name, fields) => visited.push([name, value, fields === headers]));
          const answer = await ctx.subrequest("/inner");
          return Response.json({
            keys: [...headers.keys()],
            values: [...headers.values()],
            entries: [...headers.entries()],
            visited,
            copied: [...new Headers([...headers])],
            own: [cookies["constructor"], cookies["a"], ctx.vars["constructor"], ctx.vars["known"]],
            inner: [answer.headers.getSetCookie(), answer.headers.get("X-Inner")],
          });
        },
      }),
      undefined,
      {
        vars: { known: "yes" },
        locations: {
          "/inner": () => ({
            headers: [
              ["X-Inner", "1"],
              ["Set-Cookie", "a=1"],
              ["Set-Cookie", "b=2"],
            ],
          }),
        },
      },
    );
    const sent = [
      ["Host", "a.test"],
      ["X-A", "1"],
      ["Cookie", "a=1"],
      ["x-a", "2"],
    ] as const;
    const { response } = await kit.request({ headers: sent });
    assert.deepEqual(response.json(), {
      keys: sent.map(([name]) => name),
      values: sent.map(([, value]) => value),
      entries: sent,
      visited: sent.map(([name, value]) => [name, value, true]),
      copied: [
        ["cookie", "a=1"],
        ["host", "a.test"],
        ["x-a", "1, 2"],
      ],
      own: [null, "1", null, "yes"],
      inner: [["a=1", "b=2"], "1"],
    });
    await kit.close();
  });

  test("count what they cost, and leave nothing behind", async () => {
    const bodies = () => readdirSync(tmpdir()).filter((name) => name.startsWith("resty-ts-"));
    const before = bodies();
    const kit = await testPlugin(
      definePlugin({
        name: "counts",
        async access(ctx) {
          await Promise.all([ctx.var.get("uri"), ctx.request.bytes()]);
        },
        headerFilter() {},
        log() {},
      }),
      undefined,
      { clientBodyBufferSize: 4 },
    );
    const { crossings } = await kit.request({ body: "in a file" });
    assert.deepEqual(crossings, { access: 2, headerFilter: 1, log: 1 });
    assert.deepEqual(bodies(), before);
    await kit.close();
  });

  test("that run at once keep their logs and errors apart", async () => {
    const kit = await accessing(async (ctx) => {
      const me = ctx.request.query.get("me")!;
      ctx.log.notice(me, "begins");
      await ctx.var.get("uri");
      ctx.waitUntil(Promise.reject(new Error(`${me} later`)));
      ctx.log.warn(me, { ends: true });
    });
    const results = await Promise.all(["a", "b"].map((me) => kit.request({ url: `/?me=${me}` })));
    await kit.settled();
    for (const [i, me] of ["a", "b"].entries()) {
      assert.deepEqual(results[i]!.log, [
        { level: "notice", plugin: "one", text: `${me} begins` },
        { level: "warn", plugin: "one", text: `${me} { ends: true }` },
      ]);
      const [error, ...others] = results[i]!.errors;
      assert.deepEqual([error?.plugin, error?.phase, others], ["one", "access, in waitUntil", []]);
      assert.match(error!.text, new RegExp(`Error: ${me} later`));
    }
    assert.equal(kit.errors.length, 2);
    await kit.close();
  });

  test("reject with what the test's own upstream or location throws", async () => {
    const kit = await accessing(async (ctx) => {
      if (ctx.request.path === "/ask") await ctx.subrequest("/in");
    });
    const fails = () => assert.fail("not like this");
    await assert.rejects(kit.request({ upstream: fails, url: "/x" }), /not like this/);
    await assert.rejects(
      kit.request({ locations: { "/in": fails }, url: "/ask" }),
      /not like this/,
    );
    const { errors } = await kit.request({ url: "/ask" });
    assert.match(errors[0]!.text, /no location for the subrequest to \/in.*there are: none/);
    await kit.close();
  });

  test("tell the address for the balancer, and the variables at the end", async () => {
    const kit = await accessing(
      (ctx) => {
        ctx.setUpstream("10.0.0.1", 8080);
        ctx.var.set("color", "blau");
        ctx.var.set("gone", null);
      },
      { vars: { color: "red", gone: "x", kept: "" } },
    );
    const { upstreamAddress, vars } = await kit.request({ vars: { kept: "yes" } });
    assert.deepEqual(upstreamAddress, { host: "10.0.0.1", port: 8080 });
    assert.deepEqual(vars, { color: "blau", gone: undefined, kept: "yes" });
    await kit.close();
  });

  for (const [host, expected] of [
    ["::1", "[::1]"],
    ["[2001:db8::1]", "[2001:db8::1]"],
    ["10.0.0.1", "10.0.0.1"],
    ["unix:/x:y", "unix:/x:y"],
    ["localhost", undefined],
    ["fe80::1%eth0", undefined],
    ["1.2.3", undefined],
    ["", undefined],
  ] as const) {
    test(`take ${host} for the upstream's address: ${String(expected)}`, async () => {
      const choose = definePlugin({
        name: "choose",
        access: (ctx) => ctx.setUpstream(host, 9001),
      });
      const kit = await testPlugin(choose);
      const { upstreamAddress, response } = await kit.request();
      assert.equal(upstreamAddress?.host, expected);
      assert.equal(response.status, expected === undefined ? 500 : 200);
      await kit.close();
    });
  }
});

describe("upstreams", () => {
  test("may be a Response, text, pieces, or what makes them", async () => {
    const kit = await testPlugin(
      definePlugin({
        name: "sees",
        bodyFilter: (ctx) => `<${Buffer.from(ctx.chunk).toString()}>`,
      }),
    );
    async function* made() {
      yield "a";
      await Promise.resolve();
      yield Uint8Array.of(98);
    }
    for (const [body, seen] of [
      ["ab", "<ab><>"],
      [["a", "b"], "<a><b><>"],
      [made(), "<a><b><>"],
    ] as const) {
      const { response } = await kit.request({ upstream: () => ({ body }) });
      assert.equal(response.text(), seen);
    }
    const { response } = await kit.request({
      upstream: ({ method, uri }) => Response.json({ method, uri }, { status: 202 }),
      url: "/x?y",
    });
    assert.equal(response.status, 202);
    assert.equal(response.text(), '<{"method":"GET","uri":"/x?y"}><>');
    await kit.close();
  });
});

describe("streams", () => {
  test("are collected by request", async () => {
    const kit = await testPlugin(ticks(3, () => assert.fail("it was cancelled")));
    const { response } = await kit.request();
    assert.equal(response.text(), "0 1 2 ");
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    await kit.close();
  });

  test("are pulled one by one with open, until the client leaves", async () => {
    let cancelled = false;
    const kit = await testPlugin(ticks(Infinity, () => void (cancelled = true)));
    const opened = await kit.open();
    assert.equal(opened.status, 200);
    const seen: string[] = [];
    for await (const piece of opened.pieces) {
      seen.push(Buffer.from(piece).toString());
      if (seen.join("").length > 10) break;
    }
    const { response } = await opened.result;
    assert.ok(response.cut);
    assert.ok(cancelled);
    assert.ok(seen.join("").startsWith("0 1 2 "));
    await kit.close();
  });

  test("end with the client's signal while they are silent", async () => {
    const client = new AbortController();
    let signal: AbortSignal | undefined;
    const kit = await accessing(async (ctx) => {
      signal = ctx.signal;
      client.abort();
      await new Promise((resolve) => ctx.signal.addEventListener("abort", resolve));
    });
    const { response } = await kit.request({ signal: client.signal });
    assert.equal((signal?.reason as Error).name, "AbortError");
    assert.deepEqual([response.status, response.cut], [0, true]);
    await kit.close();
  });
});

describe("policies", () => {
  const late = new Promise<never>(() => undefined);

  test("the deadline is the kit's where a plugin has none", async () => {
    const kit = await accessing(() => late, { timeoutMs: 5 });
    const { response, errors } = await kit.request();
    assert.equal(response.status, 504);
    assert.match(errors[0]!.text, /access was not done when the phase's deadline passed/);
    await kit.close();
  });

  for (const [onOverload, status] of [
    ["closed", 503],
    [429, 429],
    ["open", 200],
  ] as const) {
    test(`overload answers ${status} where onOverload is ${onOverload}`, async () => {
      const plugin = definePlugin({ name: "one", access: () => undefined });
      const kit = await testChain([{ plugin, options: { onOverload } }]);
      const phases: Phase[] = ["access"];
      for (const overload of [true, phases]) {
        const { response, crossings } = await kit.request({ overload });
        assert.equal(response.status, status);
        assert.deepEqual(crossings, {});
      }
      await kit.close();
    });
  }
});

describe("shared dictionaries", () => {
  test("have a clock that the test moves", async () => {
    const kit = await accessing(
      async (ctx) => {
        const dict = ctx.shared("limits");
        return Response.json([await dict.incr("n", 1, 0, 60), await dict.ttl("n")]);
      },
      { shared: ["limits"] },
    );
    const ask = async () => (await kit.request()).response.json();
    assert.deepEqual(await ask(), [1, 60]);
    kit.advance(59.5);
    assert.deepEqual(await ask(), [2, 0.5]);
    kit.advance(0.5);
    assert.deepEqual(await ask(), [1, 60]);
    const dict = kit.shared("limits");
    dict.set("n", 10, 5);
    assert.deepEqual(await ask(), [11, 5]);
    assert.deepEqual([dict.get("n"), dict.keys(), dict.list("n")], [11, ["n"], []]);
    assert.throws(() => kit.shared("others"), /no shared dictionary others/);
    await kit.close();
  });
});

describe("the end", () => {
  test("waits for requests and for what waitUntil was given, then tears down", async () => {
    const events: string[] = [];
    const kit = await testPlugin(
      definePlugin({
        name: "ends",
        access(ctx) {
          ctx.waitUntil(
            new Promise((resolve) => setTimeout(resolve, 5)).then(() => events.push("background")),
          );
        },
        teardown: () => void events.push("teardown"),
      }),
    );
    const pending = kit.request().then(() => events.push("request"));
    await kit.close();
    await pending;
    assert.deepEqual(events, ["request", "background", "teardown"]);
  });
});

const dist = path.join(root, "dist/testing/index.js");
test("the package's own build works without a loader", { skip: !existsSync(dist) }, () => {
  const program = `
    import { definePlugin, Type } from "resty-ts";
    import { testPlugin } from "resty-ts/testing";
    const plugin = definePlugin({
      name: "built",
      schema: Type.Object({ n: Type.Integer({ default: 3 }) }),
      access: (ctx, { conf }) => ctx.exit(200, { n: conf.n, cookies: ctx.request.cookies }),
    });
    const kit = await testPlugin(plugin, {});
    const { response } = await kit.request({ headers: { cookie: "a=b" } });
    console.log(response.text());
    await kit.close();`;
  const output = execFileSync(process.execPath, ["--input-type=module", "-e", program], {
    cwd: root,
    encoding: "utf8",
    env: { ...process.env, NODE_OPTIONS: "" },
  });
  assert.equal(output, '{"n":3,"cookies":{"a":"b"}}\n');
});
