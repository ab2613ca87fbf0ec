/**
 * `resty-ts bundle`: the archive unpacked in an empty folder, far from the project, with an environment
 * that knows nothing of it, and Debian's nginx run there by the sample configuration.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { after, describe, it } from "node:test";
import { recorded } from "../../scripts/lib/libnode.mjs";
import { unpackBundle, withSample } from "../support/bundle.js";
import { makeFolder, PROJECT_ROOT } from "../support/project.js";

const scratch = makeFolder("bundle");
after(() => {
  rmSync(scratch, { recursive: true });
});

function bundle(out: string, args: string[] = [], cwd = scratch): ReturnType<typeof run> {
  const main = path.join(PROJECT_ROOT, "dist/cli/main.js");
  return run(process.execPath, [main, "bundle", "--out", out, ...args], cwd);
}

function run(command: string, args: string[], cwd: string) {
  const { status, stdout, stderr } = spawnSync(command, args, { cwd, encoding: "utf8" });
  return { status, stdout, stderr };
}

/** A folder of this name in scratch, with these files. */
function folderWith(name: string, files: Record<string, string>): string {
  const folder = path.join(scratch, name);
  for (const [file, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
    writeFileSync(path.join(folder, file), text);
  }
  return folder;
}

/** Unpacks an archive in a new folder of scratch. */
const unpack = (archive: string, name: string): string =>
  unpackBundle(archive, path.join(scratch, name));

describe("resty-ts bundle", { timeout: 120_000 }, () => {
  const archive = path.join(scratch, "sample.tar.gz");

  it("writes one archive, whose checksums hold and whose files are nobody's", () => {
    const { status, stdout, stderr } = bundle(archive);
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^[0-9a-f]{64} {2}\S*sample\.tar\.gz \(\d+ files\)\n$/);
    const folder = unpack(archive, "sums");
    execFileSync("sha256sum", ["--check", "--strict", "--quiet", "SHA256SUMS"], { cwd: folder });
    const listed = readFileSync(path.join(folder, "SHA256SUMS"), "utf8").match(/\S+$/gm) ?? [];
    const files = readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.relative(folder, path.join(entry.parentPath, entry.name)));
    assert.deepEqual([...listed, "SHA256SUMS"].sort(), files.sort());
    for (const file of ["lib/libresty_ts.so", "lib/host.cjs", "lua/resty/ts.lua", "README.md"]) {
      assert.ok(files.includes(file), file);
    }
    const owners = execFileSync("tar", ["-tvzf", archive, "--numeric-owner"], { encoding: "utf8" });
    for (const line of owners.trim().split("\n")) assert.match(line, /^\S+ 0\/0 +\d+ 1980-01-01 /);
  });

  it("runs in nginx with a node on the PATH and nothing of the project", async () => {
    const folder = unpack(archive, "process");
    const log = await withSample(folder, "/hello", async (ask) => {
      const answer = await ask("/hello");
      assert.equal(answer.status, 200);
      assert.equal(
        answer.headers.get("x-hello"),
        `from TypeScript in Node ${process.versions.node}`,
      );
    });
    assert.match(log, /is a process beside the worker/);
    assert.doesNotMatch(log, /\[(error|alert|crit|emerg)\]/);
  });

  it("runs with Node in nginx's worker where there is a libnode", async () => {
    const libnode = recorded();
    assert.ok(libnode !== undefined);
    const folder = unpack(archive, "embedded");
    // As on a machine whose libnode is the system's.
    mkdirSync(path.join(folder, "lib/libnode"));
    symlinkSync(libnode.lib, path.join(folder, "lib/libnode", path.basename(libnode.lib)));
    const log = await withSample(folder, "/hello", async (ask) => {
      assert.match(
        (await ask("/hello")).headers.get("x-hello") ?? "",
        /from TypeScript in Node \d/,
      );
    });
    assert.match(log, /is embedded in the worker/);
  });

  const PLUGINS = {
    "node_modules/shout/package.json": '{ "name": "shout", "version": "1.0.0" }',
    "node_modules/shout/index.js": "module.exports = (text) => text.toUpperCase();",
    "plugins/loud.ts": `import { definePlugin } from "resty-ts";
      import shout from "shout";
      export default definePlugin({ name: "loud", version: "1.2.3",
        content() { return new Response(shout("from a package")); } });`,
    "plugins/keyed.ts": `import { definePlugin, Type } from "resty-ts";
      export default definePlugin({ name: "keyed", schema: Type.Object({ key: Type.String() }),
        access(ctx, { conf }) { if (conf.key === "") return ctx.exit(401); } });`,
  };

  it("takes plugins with their packages, and leaves what needs a configuration to be filled in", async () => {
    const project = folderWith("project", PLUGINS);
    const own = path.join(scratch, "own.tar.gz");
    const { status, stderr } = bundle(own, ["--plugins", path.join(project, "plugins")]);
    assert.equal(status, 0, stderr);
    rmSync(project, { recursive: true });
    const folder = unpack(own, "own");
    const conf = readFileSync(path.join(folder, "nginx.conf"), "utf8");
    assert.match(conf, /It needs a configuration \(key\)/);
    await withSample(folder, "/loud", async (ask) => {
      assert.equal(await (await ask("/loud")).text(), "FROM A PACKAGE");
      assert.equal((await ask("/keyed")).status, 404);
    });
  });

  it("is the same bytes wherever the plugins lie, and has no path of the machine in them", () => {
    const places = ["here", "far/away/there"].map((name) => folderWith(name, PLUGINS));
    const archives = places.map((place, index) => {
      const out = path.join(scratch, `same-${index}.tar.gz`);
      assert.equal(bundle(out, ["--plugins", "plugins"], place).status, 0);
      return readFileSync(out);
    });
    assert.ok(archives[0]?.equals(archives[1] ?? Buffer.alloc(0)), "they differ");
    const folder = unpack(path.join(scratch, "same-0.tar.gz"), "same");
    for (const name of readdirSync(path.join(folder, "plugins"))) {
      const text = readFileSync(path.join(folder, "plugins", name), "utf8");
      for (const place of [scratch, PROJECT_ROOT]) assert.ok(!text.includes(place), name);
    }
  });

  it("writes nothing when a plugin is wrong, and says which", () => {
    const folder = folderWith("wrong", { "broken.ts": "export default {" });
    const out = path.join(scratch, "wrong.tar.gz");
    const { status, stderr } = bundle(out, ["--plugins", folder]);
    assert.equal(status, 1);
    assert.match(stderr, /error: .*broken\.ts/);
    assert.ok(!existsSync(out));
  });

  it("says what is missing for a machine that there are no libraries for", () => {
    const { status, stderr } = bundle(path.join(scratch, "no.tar.gz"), [
      "--platform",
      "plan9-mips",
    ]);
    assert.equal(status, 2);
    assert.match(stderr, /no libraries for plan9-mips.*npm run prebuild/);
  });

  it("prints what is in it with --json", () => {
    cpSync(archive, `${archive}.before`);
    const { status, stdout } = bundle(archive, ["--json"]);
    assert.equal(status, 0);
    const { files } = JSON.parse(stdout) as { files: string[] };
    assert.ok(files.every((file) => file.startsWith("resty-ts-")));
    assert.ok(readFileSync(archive).equals(readFileSync(`${archive}.before`)));
  });
});
