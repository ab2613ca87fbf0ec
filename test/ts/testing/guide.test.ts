/** docs/testing.md holds: its first example is run as it stands there. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), "../../..");

test("the guide's example passes", () => {
  const guide = readFileSync(path.join(root, "docs/testing.md"), "utf8");
  const [example, plugin] = [...guide.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code]) => code!);
  // Below the project, where the package's own name leads to it.
  mkdirSync(path.join(root, "build-test"), { recursive: true });
  const folder = mkdtempSync(path.join(root, "build-test", "guide-"));
  try {
    writeFileSync(path.join(folder, "key-auth.ts"), plugin!);
    writeFileSync(path.join(folder, "key-auth.test.ts"), example!);
    const { status, stdout, stderr } = spawnSync(
      process.execPath,
      ["--import", "tsx", "--test", path.join(folder, "key-auth.test.ts")],
      { cwd: root, encoding: "utf8", env: { ...process.env, NODE_TEST_CONTEXT: undefined } },
    );
    assert.equal(status, 0, stdout + stderr);
    assert.match(stdout, /^# pass 2$/m);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
