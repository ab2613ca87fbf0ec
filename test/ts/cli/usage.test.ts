/** What `resty-ts` takes, and how it ends when it is given something else. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { PROJECT_ROOT } from "../../support/project.js";
import { folderOf, runCli } from "./support.js";

const USAGE = 2;

describe("resty-ts", () => {
  test("has help with examples for each command, and its version", async () => {
    for (const args of [
      ["build"],
      ["bundle"],
      ["check"],
      ["dev"],
      ["doctor"],
      ["host"],
      ["init"],
      ["apisix", "generate"],
    ]) {
      const { code, stdout, stderr } = await runCli(...args, "--help");
      assert.deepEqual({ code, stderr }, { code: 0, stderr: "" });
      assert.match(stdout, new RegExp(`Examples:\n  resty-ts ${args.join(" ")}[ \n]`));
    }
    const { stdout } = await runCli("--help");
    assert.match(stdout, /Examples:\n {2}resty-ts init /);
    assert.match(stdout, /Exit codes: 0 /);
    const manifest = readFileSync(join(PROJECT_ROOT, "package.json"), "utf8");
    const { version } = JSON.parse(manifest) as { version: string };
    assert.equal((await runCli("--version")).stdout, `${version}\n`);
  });

  const wrong: Record<string, { args: string[]; says: RegExp }> = {
    "without a command": { args: [], says: /^Usage: resty-ts / },
    "with a command that it has not": { args: ["hots"], says: /unknown command 'hots'.*host/s },
    "host without a socket": { args: ["host"], says: /required option '--listen <path>'/ },
    "host with an option that it has not": {
      args: ["host", "--listen", "x", "--lisen", "y"],
      says: /unknown option '--lisen'.*--help/s,
    },
    "host with an addon that is not there": {
      args: ["host", "--listen", "/tmp/x.sock", "--addon", "/nope"],
      says: /^\/nope is not there: --addon is resty_ts\.node\n$/,
    },
    "doctor with a root that is not there": {
      args: ["doctor", "--root", "/nope"],
      says: /^\/nope is no folder: --root is one\n$/,
    },
    "host with an argument": { args: ["host", "--listen", "x", "y"], says: /too many arguments/ },
    "apisix alone": { args: ["apisix"], says: /^Usage: resty-ts apisix / },
    "generate without folders": { args: ["apisix", "generate"], says: /'--plugins <dir>'/ },
    "generate with a folder that is not there": {
      args: ["apisix", "generate", "--plugins", "/nope", "--out", "/nope"],
      says: /^\/nope is no folder: --plugins is one\n$/,
    },
  };
  for (const [title, { args, says }] of Object.entries(wrong)) {
    test(`${title} ends with ${USAGE}, and says on stderr why`, async () => {
      const { code, stdout, stderr } = await runCli(...args);
      assert.deepEqual({ code, stdout }, { code: USAGE, stdout: "" });
      assert.match(stderr, says);
    });
  }

  test("a folder without plugins is told", async (t) => {
    const empty = folderOf(t, { "README.md": "" });
    const { code, stderr } = await runCli(
      ...["apisix", "generate", "--plugins", empty, "--out", empty],
    );
    assert.equal(code, USAGE);
    assert.match(stderr, /^there is no plugin in /);
  });

  test("an addon that does not load is told", async (t) => {
    const folder = folderOf(t, { "no.node": "none" });
    const { code, stderr } = await runCli(
      ...["host", "--listen", join(folder, "s"), "--addon", join(folder, "no.node")],
    );
    assert.equal(code, USAGE);
    assert.match(stderr, /no\.node/);
  });
});
