/**
 * The Debian package: what is in it, that it comes out the same each time, and an nginx that has
 * nothing of the project but what dpkg unpacked.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { withNginx } from "../support/nginx.js";
import { makeFolder, PROJECT_ROOT } from "../support/project.js";

const run = promisify(execFile);
const BUILT = join(PROJECT_ROOT, "build/Release");
const LIBRARY = /^(libresty_ts(_node\d+)?\.so|resty_ts\.node)$/;
const TRIPLET = process.arch === "arm64" ? "aarch64-linux-gnu" : "x86_64-linux-gnu";
const { lib: libnode } = JSON.parse(
  readFileSync(join(PROJECT_ROOT, ".deps/libnode.json"), "utf8"),
) as { lib: string };

/** A plugin without TypeScript: the package has no compiler. */
const PLUGIN = `export default {
  name: "hello",
  content: (ctx) => ctx.exit(200, "hello from " + process.version),
};`;

describe("the Debian package", () => {
  const base = makeFolder("deb");
  const libraries = join(base, "libraries");
  let deb = "";

  /** Makes it of the local build, as the release does of a prebuilt one. */
  async function make(out: string): Promise<string> {
    const script = join(PROJECT_ROOT, "scripts/deb.mjs");
    const args = [script, "--libraries", libraries, "--out", join(base, out)];
    const env = { ...process.env, SOURCE_DATE_EPOCH: "1700000000" };
    return (await run(process.execPath, args, { env })).stdout.trim();
  }

  before(async () => {
    mkdirSync(libraries);
    for (const name of readdirSync(BUILT).filter((one) => LIBRARY.test(one))) {
      cpSync(join(BUILT, name), join(libraries, name));
    }
    for (const name of ["host.cjs", "undici.cjs"]) {
      cpSync(join(PROJECT_ROOT, "dist", name), join(libraries, name));
    }
    deb = await make("first");
    await run("dpkg-deb", ["--extract", deb, join(base, "root")]);
  });

  after(() => {
    rmSync(base, { recursive: true, force: true });
  });

  test("the same files make the same bytes", async () => {
    assert.ok(readFileSync(await make("second")).equals(readFileSync(deb)));
  });

  test("libraries that are not there are told, with the command that builds them", async () => {
    const script = join(PROJECT_ROOT, "scripts/deb.mjs");
    await assert.rejects(run(process.execPath, [script, "--libraries", base]), /npm run prebuild/);
  });

  test("its control file has the version, and what it needs", async () => {
    const { version } = JSON.parse(readFileSync(join(PROJECT_ROOT, "package.json"), "utf8")) as {
      version: string;
    };
    const { stdout } = await run("dpkg-deb", ["--field", deb]);
    assert.match(stdout, new RegExp(`^Version: ${version}-1$`, "m"));
    assert.match(stdout, /^Depends: .*libnginx-mod-http-lua.*lua-resty-core/m);
    assert.match(stdout, /^Recommends: libnode\d+.* \| nodejs/m);
  });

  test("its files are where Debian has such files, root's, and nobody else's to write", async () => {
    const { stdout } = await run("dpkg-deb", ["--contents", deb]);
    const lines = stdout.trimEnd().split("\n");
    const places = new RegExp(
      `^\\./usr/(share/lua/5\\.1/(resty|apisix)/|share/(lua-resty-ts|doc/lua-resty-ts)/|lib/${TRIPLET}/lua(-resty-ts|/5\\.1)/)`,
    );
    for (const line of lines) {
      const [mode = "", owner = "", , , , name = ""] = line.split(/\s+/);
      assert.equal(owner, "root/root", line);
      assert.match(mode, /^(drwxr-xr-x|-rw-r--r--|lrwxrwxrwx)$/, line);
      if (!mode.startsWith("d")) assert.match(name, places, line);
    }
    const lua = readdirSync(join(PROJECT_ROOT, "lua"), { recursive: true, encoding: "utf8" });
    for (const name of lua.filter((one) => one.endsWith(".lua"))) {
      assert.ok(existsSync(join(base, "root/usr/share/lua/5.1", name)), name);
    }
  });

  test("what its links lead to is in it, and dpkg's checksums are right", async () => {
    const folder = join(base, `root/usr/lib/${TRIPLET}/lua/5.1`);
    const links = readdirSync(folder);
    assert.ok(links.length >= 4);
    for (const name of links) {
      assert.ok(realpathSync(join(folder, name)).startsWith(realpathSync(join(base, "root"))));
      assert.ok(statSync(join(folder, name)).size > 0);
    }
    await run("dpkg-deb", ["--control", deb, join(base, "control")]);
    const sums = join(base, "control/md5sums");
    await run("md5sum", ["--check", "--quiet", sums], { cwd: join(base, "root") });
  });

  for (const [runtime, options] of [
    ["embedded", { libnode }],
    ["process", { node: process.execPath }],
  ] as const) {
    test(`nginx answers by it, with Node ${runtime}`, async () => {
      const at = (rest: string): string => join(base, "root/usr", rest);
      // What LuaJIT has by itself once the package is installed.
      const http = `lua_package_cpath "${at(`lib/${TRIPLET}/lua/5.1`)}/?.so;;";`;
      // The harness wants lua/ below the project: Debian's folder is named otherwise.
      const project = join(base, `project-${runtime}`);
      cpSync(at("share/lua/5.1"), join(project, "lua"), { recursive: true });
      await withNginx(
        {
          projectRoot: project,
          http,
          files: { "plugins/hello.mjs": PLUGIN },
          ts: { plugins: "plugins", runtime, ...options },
          locations: { "/": `content_by_lua_block { require("resty.ts.http").content("hello") }` },
        },
        async (nginx) => {
          assert.match((await nginx.ask("/")).text, /^hello from v\d+/);
        },
      );
    });
  }
});
