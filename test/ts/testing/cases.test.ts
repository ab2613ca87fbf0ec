/** The shared suite in the kit. */
import { describe, test } from "node:test";
import { check, runInKit } from "../../kit/case.ts";
import { cases, hostOf } from "../../kit/cases.ts";

describe("the kit", () => {
  for (const [i, one] of cases.entries()) {
    test(one.title, async () => check(one, await runInKit(one, hostOf(i))));
  }
});
