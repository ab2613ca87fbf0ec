/** `resty-ts init` as a user would try it: the packed package, installed by npm, and each of the commands. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { makeFolder, PROJECT_ROOT } from "../../support/project.js";
import { Registry } from "../guide/registry.js";

const CLI = join(PROJECT_ROOT, "dist/cli/main.js");
const COMMAND_MS = 120_000;

describe("resty-ts init", () => {
  let base: string;
  let registry: Registry;
  before(async () => {
    base = makeFolder("init");
    registry = await Registry.start(join(base, "registry"));
  });
  after(() => {
    registry.close();
    rmSync(base, { recursive: true, force: true });
  });

  function run(cwd: string, command: string, ...args: string[]) {
    const env = registry.environment(base);
    return new Promise<{ code: number | string; stdout: string; stderr: string }>((resolve) => {
      const options = { cwd, env, timeout: COMMAND_MS, encoding: "utf8" as const };
      execFile(command, args, options, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : (error.code ?? "killed"), stdout, stderr });
      });
    });
  }

  test("makes a project whose commands pass as it is", async (t) => {
    const made = await run(base, process.execPath, CLI, "init", "My gateway");
    assert.equal(made.code, 0, made.stderr);
    assert.match(
      made.stderr,
      /^next: cd 'My gateway' && npm install && npm test && npm run dev\n$/,
    );
    const files = [
      ...[".gitignore", "README.md", "package.json", "resty-ts.json"],
      ...["src/plugins/hello.ts", "test/hello.test.ts", "tsconfig.json"],
    ];
    assert.equal(made.stdout, files.map((name) => `wrote     ${name}\n`).join(""));
    const project = join(base, "My gateway");
    const installed = await run(project, "npm", "install");
    assert.equal(installed.code, 0, installed.stderr);

    const passes = (title: string, args: string[], says: RegExp) =>
      t.test(title, async () => {
        const { code, stdout, stderr } = await run(project, "npm", ...args);
        assert.equal(code, 0, stdout + stderr);
        assert.match(stdout, says);
      });
    await passes("npm test", ["test"], /pass 2\b/);
    await passes("npm run types", ["run", "types"], /> tsc/);
    await passes("npm run check", ["run", "check"], /^1 plugin, 1 configuration: 0 problems$/m);
    await passes(
      "npm run build",
      ["run", "build"],
      /^built {5}hello\.mjs \(access, header_filter\)$/m,
    );
    assert.ok(existsSync(join(project, "dist/plugins/manifest.json")));
  });

  test("says so where no folder can be made", async () => {
    const { code, stderr } = await run(base, process.execPath, CLI, "init", "/proc/project");
    assert.equal(code, 2);
    assert.match(stderr, /^\/proc\/project cannot be made: ENOENT/);
  });

  test("writes into no folder in which something is", async () => {
    const { code, stderr } = await run(base, process.execPath, CLI, "init", ".");
    assert.equal(code, 2);
    assert.match(stderr, /^\. is not empty: a project is made in a new folder\n$/);
  });
});
