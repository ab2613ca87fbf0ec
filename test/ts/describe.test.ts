/** What a failure looks like in the error log. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { messageOf, stackOf } from "../../src/host/describe.ts";

describe("an error in the log", () => {
  test("has its stack and its causes'", () => {
    const cause = new Error("connect ECONNREFUSED");
    const text = stackOf(new TypeError("fetch failed", { cause }));
    assert.match(
      text,
      /^TypeError: fetch failed\n.* at .*\ncaused by Error: connect ECONNREFUSED\n/s,
    );
    assert.match(stackOf(new Error("outer", { cause: "a text" })), /caused by a text$/);
  });

  test("ends, also when its causes do not", () => {
    const error = new Error("around");
    error.cause = error;
    assert.equal(stackOf(error).split("caused by").length, 6);
  });

  test("that is none is shown as well as it can be", () => {
    const hostile = new Proxy(new Error("x"), {
      get() {
        throw new Error("no");
      },
    });
    assert.ok(stackOf(hostile).length > 0);
    assert.equal(messageOf("text"), "text");
    assert.equal(stackOf(undefined), "undefined");
  });
});
