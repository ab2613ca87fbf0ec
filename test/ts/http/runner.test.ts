/** Plugins of the community's JavaScript runner of APISIX, in a hook: what they see, and what goes on. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Change } from "../../../src/http/changes.ts";
import { checkDefinition } from "../../../src/http/definition.ts";
import type { Member } from "../../../src/http/engine.ts";
import { HeadFlag, type HeadParts } from "../../../src/http/head.ts";
import { PhaseNumber } from "../../../src/http/phases.ts";
import { addressBytes, pathText, rawPath, RunnerArgs } from "../../../src/http/runner-request.ts";
import type { RunnerRequest } from "../../../src/http/runner-request.ts";
import type { Plugin } from "../../../src/sdk/index.ts";
import { caller, head, open } from "./support.ts";

interface Answer {
  status?: unknown;
  headers?: unknown;
  body?: unknown;
}
type Act = (request: RunnerRequest, response: Answer, conf: unknown) => unknown;

/** As the runner's examples are written. */
const withFilter = (act: Act, rest: object = {}) => ({
  filter: (conf: unknown, request: RunnerRequest, response: Answer) => act(request, response, conf),
  ...rest,
});

const inHook = (value: unknown): Member => ["old", value, { hook: "pre-req", priority: 0 }];

function engineFor(exported: unknown) {
  const { engine, reports } = open(exported as Plugin);
  return { engine, reports };
}

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);

/** A file's export as the loader takes it. */
const loaded = (exported: unknown): Plugin => checkDefinition(exported, "old");

async function run(exported: unknown, parts: Partial<HeadParts> = {}, value: unknown = "") {
  const { engine } = engineFor(loaded(exported));
  await engine.configure(1, [inHook(value)]);
  const bytes = head({ phase: PhaseNumber.rewrite, flags: HeadFlag.apisix, ...parts });
  return await engine.run(bytes, null, null, null, caller());
}

/** What a filter sees. */
async function seen<T>(look: (request: RunnerRequest) => T, parts: Partial<HeadParts> = {}) {
  let found: T | undefined;
  const act: Act = (request) => void (found = look(request));
  assert.equal(await run(withFilter(act), parts), null, "nothing was changed");
  return found;
}

describe("a file of the runner's", () => {
  class Say {
    greeting = "hello";
    getName(): string {
      return "old";
    }
    parseConf(text: string): unknown {
      return JSON.parse(text || '{"body":"example"}');
    }
    filter(conf: { body: string }, _request: unknown, response: Answer): Promise<void> {
      response.body = `${this.greeting} ${conf.body}`;
      response.headers = new Map([["X-Said", conf.body]]);
      return Promise.resolve();
    }
  }
  const said = (body: string): unknown[] => [
    ...[Change.responseField, "X-Said", body],
    ...[Change.responseField, "content-type", "text/plain; charset=utf-8"],
    ...[Change.exit, 200, utf8(`hello ${body}`)],
  ];

  test("exports a class, or what is made of one, with or without the rest", async () => {
    assert.deepEqual(await run(Say, {}, '{"body":"you"}'), said("you"));
    assert.deepEqual(await run(new Say(), {}, ""), said("example"));
    assert.equal(await run({ filter: () => undefined }), null);
  });

  test("gets its value as it is when it has no parseConf", async () => {
    let conf: unknown;
    await run(
      withFilter((_request, _response, given) => void (conf = given)),
      {},
      "{no json",
    );
    assert.equal(conf, "{no json");
  });

  test("has parseConf run once for a configuration", async () => {
    let parsed = 0;
    const counts = withFilter(() => undefined, { parseConf: () => ++parsed });
    const { engine } = engineFor(loaded(counts));
    await engine.configure(1, [inHook("")]);
    const bytes = head({ phase: PhaseNumber.rewrite });
    for (let i = 0; i < 3; i++) await engine.run(bytes, null, null, null, caller());
    assert.equal(parsed, 1);
  });

  test("is refused with its words when parseConf throws", async () => {
    await assert.rejects(run(Say, {}, "{no json"), {
      code: "bad_config",
      message: /^old: parseConf failed: .*JSON/,
    });
  });

  test("is refused when it cannot be made, or has another name", async () => {
    class Broken {
      constructor() {
        throw new Error("no luck");
      }
      filter(): void {}
    }
    const refused = (exported: unknown, message: RegExp): void =>
      assert.throws(() => loaded(exported), { code: "bad_plugin", message });
    refused(Broken, /^old: `new` of its class failed: no luck$/);
    refused(
      withFilter(() => undefined, { getName: () => "say" }),
      /^old: its getName\(\) is "say", and its file is old$/,
    );
    refused({ name: "old", filter: () => undefined }, /there is no option or phase filter/);
  });

  test("has no use in the hook after the upstream", async () => {
    const { engine } = engineFor(loaded(Say));
    await assert.rejects(engine.configure(1, [["old", "", { hook: "post-resp" }]]), {
      code: "bad_plugin",
      message: /^old does nothing in ts-plugin-post-resp: it is written for APISIX's JavaScript/,
    });
  });

  test("takes what Lua gives it in any other nginx", async () => {
    const { engine } = engineFor(loaded(Say));
    const { phases } = await engine.configure(1, [["old", { body: "you" }]]);
    assert.deepEqual(Object.keys(phases), ["rewrite"]);
    const bytes = head({ phase: PhaseNumber.rewrite });
    assert.deepEqual(await engine.run(bytes, null, null, null, caller()), said("you"));
  });

  test("that throws is told of, and only that request fails", async () => {
    const throwing = withFilter((request) => {
      if (request.headers.has("x-bad")) throw new Error("no luck");
    });
    const bad = (await run(throwing, { requestFields: ["X-Bad", "1"] })) as unknown[];
    assert.deepEqual(bad.slice(0, 3), [Change.failed, "old", 500]);
    assert.match(String(bad[3]), /no luck/);
    assert.equal(await run(throwing), null);
  });
});

describe("its request", () => {
  test("is what came", async () => {
    const look = ({ path, method, srcIp, args, headers }: RunnerRequest): unknown => [
      ...[path, method, srcIp, [...args], [...headers.keys()]],
    ];
    const requestUri = "/a%2Fb/%C3%A9?x=1&y=%20+";
    const parts = { requestUri, uri: "/a/b/\u00c3\u00a9", args: "x=1&y=%20+" };
    assert.deepEqual(await seen(look, parts), [
      "/a%2Fb/\u00e9",
      "GET",
      [127, 0, 0, 1],
      [
        ["x", "1"],
        ["y", "  "],
      ],
      ["host", "x-a"],
    ]);
  });

  test("has another id each time", async () => {
    const id = ({ id }: RunnerRequest): number => id;
    assert.notEqual(await seen(id), await seen(id));
  });

  test("has fields whose repetitions are kept", async () => {
    const requestFields = ["Cookie", "a=1", "Cookie", "b=2", "X-A", "1", "x-a", "\u00c3\u00a9"];
    const look = ({ headers }: RunnerRequest): unknown => ({
      get: [headers.get("x-a"), headers.get("COOKIE"), headers.get("none")],
      all: headers.getAll("X-A"),
      has: [headers.has("x-A"), headers.has("none")],
      size: headers.size,
      entries: [...headers],
      values: [...headers.values()],
    });
    assert.deepEqual(await seen(look, { requestFields }), {
      get: ["1, \u00e9", "a=1; b=2", undefined],
      all: ["1", "\u00e9"],
      has: [true, false],
      size: 2,
      entries: [
        ["cookie", "a=1; b=2"],
        ["x-a", "1, \u00e9"],
      ],
      values: ["a=1; b=2", "1, \u00e9"],
    });
  });

  test("changes the fields that are set, added and deleted, and no others", async () => {
    const act: Act = ({ headers }) => {
      headers.set("X-New", "\u20ac").set("X-Many", ["1", 2]).append("X-A", "3");
      assert.equal(headers.delete("x-gone"), true);
      assert.equal(headers.delete("x-none"), false);
      headers.forEach((value, name, map) => {
        assert.equal(map.get(name), value);
      });
    };
    const requestFields = ["X-A", "1", "X-A", "2", "X-Gone", "1", "X-Bytes", "\u00ff"];
    assert.deepEqual(await run(withFilter(act), { requestFields }), [
      ...[Change.requestField, "X-New", Buffer.from("\u20ac")],
      ...[Change.requestField, "X-Many", ["1", "2"]],
      ...[Change.appendRequestField, "X-A", "3"],
      ...[Change.requestField, "x-gone", null],
    ]);
  });

  const uriAfter = async (act: Act, requestUri: string) => {
    const [path = "", args] = requestUri.split("?");
    const uri = Buffer.from(decodeURIComponent(path)).toString("latin1");
    const changes = await run(withFilter(act), { requestUri, uri, args });
    if (changes === null) return undefined;
    assert.equal(changes[0], Change.uri);
    return changes[3];
  };

  test("leaves its framing to nginx", async () => {
    const requestFields = ["Content-Length", "4", "Expect", "100-continue"];
    for (const act of [
      ({ headers }) => headers.set("content-length", 5),
      ({ headers }) => headers.append("Content-Length", 5),
      ({ headers }) => headers.delete("content-length"),
      ({ headers }) => headers.delete("expect"),
      ({ headers }) => headers.clear(),
    ] as Act[]) {
      const changes = await run(withFilter(act), { requestFields });
      assert.deepEqual(changes!.slice(0, 3), [Change.failed, "old", 500]);
      assert.match(String(changes![3]), /of a request is set by nginx/);
    }
  });

  test("keeps what is not touched of path and arguments, byte by byte", async () => {
    const before = "/a%2Fb?x=1&x=2&y&z=%2F+%zz&=&%00=%ff";
    assert.equal(await uriAfter(() => undefined, before), undefined);
    assert.equal(
      await uriAfter(({ args }) => args.append("new", "a b&"), before),
      `${before}&new=a%20b%26`,
    );
    assert.equal(
      await uriAfter(({ args }) => args.set("x", "\u00e9"), before),
      before.replace("x=1&x=2", "x=%C3%A9"),
    );
    assert.equal(
      await uriAfter(({ args }) => args.set("x", ["3", 4]), before),
      before.replace("x=1&x=2", "x=3&x=4"),
    );
    assert.equal(
      await uriAfter(({ args }) => args.delete("x"), before),
      before.replace("x=1&x=2&", ""),
    );
    assert.equal(await uriAfter(({ args }) => args.delete("none"), before), undefined);
    assert.equal(await uriAfter(({ args }) => args.clear(), before), "/a%2Fb");
    assert.equal(
      await uriAfter((request) => (request.path = "/c"), before),
      before.replace("/a%2Fb", "/c"),
    );
  });

  test("has a path that can be read and set without loss", async () => {
    const raw = "/v1/a%2Fb%25%3F%23/c%20d/%C3%A9";
    assert.equal(pathText(raw), "/v1/a%2Fb%25%3F%23/c d/\u00e9");
    assert.equal(rawPath(pathText(raw)), raw);
    assert.equal(rawPath("/100% a?b#c\u00e9"), "/100%25%20a%3Fb%23c%C3%A9");
    const moved = await uriAfter(
      (request) => (request.path = request.path.replace("v1", "v2")),
      raw,
    );
    assert.equal(moved, raw.replace("v1", "v2"));
    assert.equal(await uriAfter((request) => (request.path = undefined as never), raw), undefined);
  });

  test("has arguments as the runner has them: the last of a name, and those without a value", () => {
    const args = new RunnerArgs("a=1&a=2&b&c=&d=x=y");
    assert.deepEqual(
      [...args],
      [
        ["a", "2"],
        ["b", ""],
        ["c", ""],
        ["d", "x=y"],
      ],
    );
    assert.deepEqual(args.getAll("a"), ["1", "2"]);
    assert.equal(args.has("b"), true);
    assert.equal(args.get("e"), undefined);
    assert.equal(args.size, 4);
    assert.equal(new RunnerArgs(undefined).size, 0);
  });

  test("has its body as text and as bytes", async () => {
    const bytes = Uint8Array.of(0xff, 0, 0x61);
    let found: unknown;
    const act: Act = async (request) => {
      found = [await request.bodyBytes(), await request.body()];
    };
    const { engine } = engineFor(loaded(withFilter(act)));
    await engine.configure(1, [inHook("")]);
    const asked = await engine.run(
      head({ phase: PhaseNumber.rewrite }),
      null,
      null,
      null,
      caller(),
    );
    assert.deepEqual(asked, [Change.ask, 1, [["body"]]]);
    await engine.resume(1, [[true, bytes]], caller());
    assert.deepEqual(found, [bytes, "\ufffd\0a"]);
  });

  test("has its method changed", async () => {
    const changes = await run(withFilter((request) => (request.method = "PUT")));
    assert.deepEqual(changes, [Change.method, "PUT"]);
  });

  test("has the bytes of the client's address", () => {
    assert.deepEqual(addressBytes("10.0.0.7"), [10, 0, 0, 7]);
    assert.deepEqual(addressBytes("unix:"), []);
    const zeros = (count: number): number[] => Array.from({ length: count }, () => 0);
    assert.deepEqual(addressBytes("::1"), [...zeros(15), 1]);
    assert.deepEqual(addressBytes("::"), zeros(16));
    assert.deepEqual(addressBytes("2001:db8::ff00:42:8329"), [
      ...[0x20, 1, 0xd, 0xb8, ...zeros(6), 0xff, 0, 0, 0x42, 0x83, 0x29],
    ]);
    assert.deepEqual(
      addressBytes("1:2:3:4:5:6:7:8"),
      [0, 1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0, 7, 0, 8],
    );
    assert.deepEqual(addressBytes("fe80::1%eth0").slice(0, 2), [0xfe, 0x80]);
    assert.deepEqual(addressBytes("::ffff:1.2.3.4"), [...zeros(10), 255, 255, 1, 2, 3, 4]);
  });
});

describe("its answer", () => {
  const answer = (set: Answer) =>
    run(withFilter((_request, response) => void Object.assign(response, set)));
  const exit = async (set: Answer) => (await answer(set))!.slice(-3);

  test("is 200 unless it says otherwise, with text or bytes, or nothing", async () => {
    const binary = Uint8Array.of(0xff, 0, 0x80);
    assert.deepEqual(await exit({ body: "caf\u00e9" }), [Change.exit, 200, utf8("caf\u00e9")]);
    assert.deepEqual(await answer({ body: binary }), [Change.exit, 200, binary]);
    assert.deepEqual(await answer({ body: Buffer.from(binary) }), [
      Change.exit,
      200,
      Buffer.from(binary),
    ]);
    assert.deepEqual(await answer({ status: 403 }), [Change.exit, 403, null]);
    assert.deepEqual(await answer({ headers: new Map() }), [Change.exit, 200, null]);
  });

  test("is none when nothing is set to something", async () => {
    assert.equal(await answer({}), null);
    assert.equal(await answer({ status: undefined, headers: null, body: "" }), null);
  });

  for (const [kind, headers] of Object.entries({
    "a Map": new Map<string, unknown>([
      ["X-A", "\u00e9"],
      ["Set-Cookie", ["a=1", "b=2"]],
    ]),
    "a plain object": { "X-A": "\u00e9", "Set-Cookie": ["a=1", "b=2"] },
    "what has keys and get": {
      keys: () => ["X-A", "Set-Cookie"],
      get: (name: string) => (name === "X-A" ? "\u00e9" : ["a=1", "b=2"]),
    },
  })) {
    test(`has fields of ${kind}`, async () => {
      assert.deepEqual(await answer({ status: 204, headers }), [
        ...[Change.responseField, "X-A", Buffer.from("\u00e9")],
        ...[Change.responseField, "Set-Cookie", ["a=1", "b=2"]],
        ...[Change.exit, 204, null],
      ]);
    });
  }

  test("has fields of Fetch's Headers, and a Content-Type of its own", async () => {
    const headers = new Headers({
      "content-type": "text/html",
      "content-length": "7",
      connection: "close",
    });
    assert.deepEqual(await answer({ headers, body: "<p>" }), [
      ...[Change.responseField, "content-type", "text/html"],
      ...[Change.exit, 200, utf8("<p>")],
    ]);
  });

  test("has each Set-Cookie of Fetch's Headers on its own", async () => {
    const headers = new Headers([
      ["set-cookie", "a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT"],
      ["vary", "a"],
      ["set-cookie", "b=2"],
      ["vary", "b"],
    ]);
    assert.deepEqual(await answer({ headers, status: 204 }), [
      ...[Change.responseField, "vary", "a, b"],
      ...[Change.responseField, "set-cookie"],
      ["a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", "b=2"],
      ...[Change.exit, 204, null],
    ]);
  });

  test("leaves the request as it was", async () => {
    const changes = await run(
      withFilter((request, response) => {
        request.path = "/never";
        response.status = 403;
      }),
    );
    assert.deepEqual(changes, [Change.exit, 403, null]);
  });
});
