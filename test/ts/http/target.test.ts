/** Targets and queries: what plugins read of any target, and what changes leave as it was sent. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import { encodeHead, Head, type HeadParts } from "../../../src/http/head.ts";
import { hostOf, originOf } from "../../../src/http/origin.ts";
import { Query, RequestUrl } from "../../../src/http/query.ts";
import {
  byteString,
  decodePath,
  escapeBytes,
  resolvePath,
  Target,
} from "../../../src/http/target.ts";

/** The target as nginx reads it, with merge_slashes on or off. */
function targetOf(raw: string, merges = true, parts: Partial<HeadParts> = {}): Target {
  const [, path = "", args] = /^([^?#]*)(?:\?([^#]*))?/.exec(raw) ?? [];
  const uri = resolvePath(decodePath(path), merges);
  assert.ok(uri !== undefined);
  return Target.of(
    new Head(
      encodeHead({
        ...{ phase: 2, token: 1, requestId: 1, method: "GET", requestUri: raw, uri },
        ...{ args: args || undefined, remoteAddress: "", requestFields: [] },
        ...parts,
      }),
    ),
  );
}

const pieces = "a b / // . .. %2F %2f %2e %2E . %5C \\ %25 %3F %23 %3B ; : @ + %61 %C3%A9".split(
  " ",
);
const piece = fc.oneof(
  fc.constantFrom(...pieces, "%ff", "%7F", "%20", "|", '"', "<", "'", "[", "evil", "admin"),
  fc.integer({ min: 0x80, max: 0xff }).map((byte) => String.fromCharCode(byte)),
  fc.constantFrom(byteString("é"), byteString("\u{1f600}")),
);
const leadsAbove = (path: string): boolean =>
  [true, false].some((merges) => resolvePath(decodePath(path), merges) === undefined);
const paths = fc
  .array(piece, { maxLength: 8 })
  .map((found) => `/${found.join("")}`)
  .filter((path) => !leadsAbove(path));
const argument = fc
  .array(fc.constantFrom(..."a b tenant = %20 + %zz % ? / é %C3%A9 %ff".split(" "), "\xff"), {
    maxLength: 4,
  })
  .map((found) => byteString(found.join("")));
const queries = fc.array(argument, { maxLength: 5 }).map((found) => found.join("&"));
const targets = fc
  .tuple(paths, fc.option(queries, { nil: null }), fc.boolean())
  .map(([path, args, merges]) => ({
    raw: args === null ? path : `${path}?${args}`,
    path,
    args,
    merges,
  }));
const names = fc.constantFrom("a", "b", "tenant", "", "é", "a b", "\ufffd");
const edits = fc.array(
  fc.oneof(
    fc.tuple(fc.constantFrom("set", "append", "remove"), names, names),
    fc.tuple(fc.constantFrom("delete", "sort"), names, fc.constant("")),
  ),
  { minLength: 1, maxLength: 4 },
);

const free = (): void => undefined;
const fixed = (): never => {
  throw new TypeError("not here");
};
const check = (runs: number) => ({ numRuns: runs, seed: 17 });

describe("a target", () => {
  test("is read as it was sent, and set to what was read goes on byte for byte", () => {
    fc.assert(
      fc.property(targets, ({ raw, merges }) => {
        const target = targetOf(raw, merges);
        assert.equal(target.raw, raw);
        assert.equal(target.withUri(target.text), target);
        assert.equal(target.withPath(target.pathText), target);
        assert.equal(
          target.withQuery(`?${target.argsText ?? ""}`).raw.replace(/\?$/, ""),
          raw.replace(/\?$/, ""),
        );
        const moved = target.withUri("/elsewhere?x=1").withUri(target.text);
        assert.equal(moved.raw, raw);
        assert.equal(moved.path, target.path);
      }),
      check(3000),
    );
  });

  test("has a URL whose path, decoded, is the one that nginx routes by, for any Host", () => {
    const hosts = fc.oneof(
      fc.constantFrom("x#", "x?role=admin&z=", "x\\y", "u:p@x", "[::1]:8080", "", "x:", "x:99999"),
      fc.string({ unit: "binary-ascii", maxLength: 12 }),
    );
    fc.assert(
      fc.property(targets, hosts, ({ raw, args, merges }, field) => {
        const target = targetOf(raw, merges);
        const url = new RequestUrl(originOf("http", hostOf(field) ?? "", field), target);
        assert.equal(url.pathname, target.pathname, "URL read the path otherwise");
        assert.equal(decodePath(url.pathname), target.path);
        assert.equal(url.hash + url.username + url.password, "");
        const pairs = [...new Query(args ?? "", fixed)];
        assert.deepEqual([...new URL(url.href).searchParams], pairs);
        assert.deepEqual([...url.searchParams], pairs);
      }),
      check(3000),
    );
  });

  test("keeps its other part when one is changed", () => {
    fc.assert(
      fc.property(targets, fc.constantFrom("/new", "/a b%/é", "/x/../y"), (one, path) => {
        const { raw, merges } = one;
        const target = targetOf(raw, merges);
        const moved = target.withPath(path);
        assert.equal(moved.args, target.args);
        assert.equal(moved.path, byteString(path === "/x/../y" ? "/y" : path));
        const asked = target.withUri(`${target.text.replace(/\?.*/s, "")}?t=7`);
        assert.equal(asked.raw, `${escapeBytes(one.path)}?t=7`);
        const prefixed = target.withUri(`/up${target.text}`);
        assert.equal(decodePath(prefixed.rawPath), `/up${decodePath(one.path)}`);
        assert.equal(prefixed.args, target.args && escapeBytes(target.args));
      }),
      check(3000),
    );
  });

  for (const [raw, path, pathname] of [
    ["/%61dmin//x/../y", "/admin/y", "/admin/y"],
    ["/group%2frepo", "/group/repo", "/group%2Frepo"],
    ["/public/..%2Fadmin", "/admin", "/admin"],
    ["/a%2F/b", "/a/b", "/a/b"],
    ["/a\\..\\b", "/a\\..\\b", "/a%5C..%5Cb"],
    ["/\\evil/x", "/\\evil/x", "/%5Cevil/x"],
    ["//evil/x", "/evil/x", "/evil/x"],
    ["/%2e%2e%2fa/../b", undefined, undefined],
  ] as const) {
    if (path === undefined) continue;
    test(`${raw} has the path ${path}, and ${pathname} in its URL`, () => {
      const target = targetOf(raw);
      assert.deepEqual([target.path, target.pathname], [path, pathname]);
    });
  }

  test("keeps doubled slashes where nginx does", () => {
    const target = targetOf("/ocsp/MF//Q%2Fx%2BA", false);
    assert.equal(target.text, "/ocsp/MF//Q%2Fx%2BA");
    assert.equal(target.path, "/ocsp/MF//Q/x+A");
    assert.equal(target.pathname, "/ocsp/MF//Q%2Fx+A");
  });

  test("that nginx or Lua has changed reads as nginx will send it", () => {
    const changed = (uri: string, args?: string) =>
      targetOf("/old%2Fx?a=1", true, { uri, args }).text;
    assert.equal(changed("/new x/\xff%"), "/new%20x/%FF%25");
    assert.equal(changed("/old/x", "b=2"), "/old%2Fx?b=2");
    assert.equal(changed("/old%2Fx"), "/old%252Fx");
    assert.equal(targetOf("?q", true, { uri: "/", args: "q" }).text, "/?q");
  });

  const refused: Record<string, (target: Target) => unknown> = {
    "no slash": (target) => target.withUri("x"),
    "no text": (target) => target.withUri(undefined),
    "a space": (target) => target.withUri("/a b"),
    "a line break": (target) => target.withUri("/a\r\nb"),
    "a fragment": (target) => target.withUri("/a#b"),
    "%00": (target) => target.withUri("/a%00b"),
    "a lone %": (target) => target.withUri("/100%"),
    "a way above /": (target) => target.withUri("/a/..%2f../b"),
    "a lone surrogate": (target) => target.withUri("/\ud800"),
    "a path above /": (target) => target.withPath("/../x"),
    "a path without a slash": (target) => target.withPath("x"),
    "a path with NUL": (target) => target.withPath("/\0"),
    "a query with a space": (target) => target.withQuery("a b"),
  };
  for (const [title, act] of Object.entries(refused)) {
    test(`refuses ${title}`, () => {
      assert.throws(() => act(targetOf("/a?b")), { code: "bad_response" });
    });
  }

  test("whose path is no UTF-8 is changed by its escapes alone", () => {
    const target = targetOf("/a\xff%e9");
    assert.equal(target.text, "/a%FF%e9");
    assert.throws(() => target.withPath(`/v2${target.pathText}`), { code: "bad_response" });
    assert.equal(target.withUri(`/v2${target.text}`).path, "/v2/a\xff\xe9");
  });
});

describe("a query", () => {
  test("has the arguments that URLSearchParams has after the same changes", () => {
    fc.assert(
      fc.property(queries, edits, (args, doing) => {
        let told = args;
        const query = new Query(args, free, (changed) => (told = changed));
        const model = new URLSearchParams([...query]);
        for (const [what, name, value] of doing) {
          for (const one of [query, model]) {
            if (what === "set" || what === "append") one[what](name, value);
            else if (what === "remove") one.delete(name, value);
            else if (what === "delete") one.delete(name);
            else one.sort();
          }
        }
        assert.deepEqual([...query], [...model]);
        assert.equal(query.raw, told);
        assert.deepEqual([...new Query(told, fixed)], [...model], "the upstream reads the same");
      }),
      check(3000),
    );
  });

  test("keeps the bytes of arguments that are not named", () => {
    fc.assert(
      fc.property(queries, fc.constantFrom("set", "append", "delete"), (args, what) => {
        let told = args;
        const query = new Query(args, free, (changed) => (told = changed));
        if (what === "delete") query.delete("tenant");
        else query[what]("tenant", "7");
        const others = (text: string): string[] =>
          text.split("&").filter((raw) => raw !== "" && !new URLSearchParams(raw).has("tenant"));
        assert.deepEqual(others(told), others(args));
      }),
      check(3000),
    );
  });

  test("begins with what stands behind the first ?", () => {
    assert.deepEqual([...new Query("?a=1", fixed)], [["?a", "1"]]);
  });

  test("that is fixed refuses changes", () => {
    const query = new Query("a=1", fixed);
    for (const act of [
      () => query.set("a", "2"),
      () => query.append("a", "2"),
      () => query.delete("a"),
      () => query.sort(),
    ]) {
      assert.throws(act, new TypeError("not here"));
    }
    assert.equal(String(query), "a=1");
  });
});

describe("a URL", () => {
  const url = new RequestUrl("http://h", targetOf("/a?b=1"));

  test("refuses every change", () => {
    for (const name of "href protocol username password host hostname port pathname search hash searchParams".split(
      " ",
    )) {
      assert.throws(() => Object.assign(url, { [name]: "x" }), TypeError, name);
    }
    assert.throws(() => url.searchParams.set("b", "2"), TypeError);
    assert.equal(url.href, "http://h/a?b=1");
  });

  test("is a URL to Fetch", () => {
    assert.equal(url instanceof URL, true);
    assert.equal(new Request(url).url, "http://h/a?b=1");
    assert.equal(new URL("c", url).href, "http://h/c");
  });

  for (const [host, field, origin] of [
    ["a.example", "A.example:8080", "http://a.example:8080"],
    ["a.example", "a.example.", "http://a.example"],
    ["other.example", "a.example:8080", "http://other.example"],
    ["a.example", null, "http://a.example"],
    ["[::1]", "[::1]:81", "http://[::1]:81"],
    ["u", "u:p@x", "http://u"],
    ["a", "a:99999", "http://a"],
    ["a", "a:80:90", "http://a"],
    ["x#", "x#", "http://localhost"],
    ["x\\y", "x\\y", "http://localhost"],
    ["0x7f.1", "0x7f.1", "http://localhost"],
    ["a%62c", "a%62c", "http://localhost"],
    ["", "", "http://localhost"],
    ["[::1", "[::1", "http://localhost"],
    ["_", null, "http://_"],
  ] as const) {
    test(`with $host "${host}" and the field ${String(field)} begins with ${origin}`, () => {
      assert.equal(originOf("http", host, field), origin);
    });
  }
});
