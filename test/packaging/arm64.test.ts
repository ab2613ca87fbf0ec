/**
 * What `npm run prebuild -- --platform linux-arm64` makes, run: by qemu's user emulation, with the
 * arm64 programs of this machine's Debian unpacked beside (LuaJIT, nginx, libnode, node).
 *
 * Emulation is slow, so nothing here depends on time but deadlines, which are long; and it orders
 * memory as this machine does, so a missing fence is not seen here (native/channel/channel.h argues).
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, rmSync, symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { emulator } from "../../scripts/lib/emulated.mjs";
import { ensureCompilers, ensureForeign } from "../../scripts/lib/foreign.mjs";
import { crossTo } from "../../scripts/lib/platform.mjs";
import { unpackBundle, withSample } from "../support/bundle.js";
import { until, within } from "../support/deadline.js";
import { makeFolder, PROJECT_ROOT } from "../support/project.js";

const PLATFORM = "linux-arm64";
const cross = crossTo(PLATFORM);
/** With what they depend on, and nothing else: no Lua library that an nginx may come without. */
const PROGRAMS = ["libnginx-mod-http-lua", "luajit2", "nginx", "nodejs"];
/** Of the npm package. */
const PACKAGE_PARTS = ["dist", "lua", "conf", "templates", "LICENSE", "package.json"];
const PATIENCE_MS = 120_000;
/** For the sample's ts.start: starting Node takes seconds, its first answers some hundred ms. */
const PATIENT = `start_timeout_ms = ${PATIENCE_MS}, timeout_ms = ${PATIENCE_MS}, sync_timeout_ms = 60000,`;

const SMOKE = path.join(PROJECT_ROOT, "test/packaging/smoke");

const scratch = makeFolder("arm64");
const stage = path.join(scratch, "package");
/** esbuild has no program for arm64 here: the emulated host runs this machine's. */
const esbuild = createRequire(path.join(PROJECT_ROOT, "package.json")).resolve(
  `@esbuild/linux-${process.arch}/bin/esbuild`,
);
const env = {
  PATH: "/usr/bin:/bin",
  LUA_PATH: `${stage}/lua/?.lua;;`,
  ESBUILD_BINARY_PATH: esbuild,
};

/** The command line of an arm64 program. */
let root = "";
const emulated = (program: string, pageBytes = 4096): [string, ...string[]] =>
  emulator("aarch64", ["-p", String(pageBytes), "-L", root, program]);

function run([program, ...args]: [string, ...string[]], cwd = scratch): string {
  const options = { cwd, env, encoding: "utf8", timeout: PATIENCE_MS } as const;
  const { status, signal, stdout, stderr } = spawnSync(program, args, options);
  assert.equal(status, 0, `${program} ${args.join(" ")}: ${signal ?? ""}\n${stdout}${stderr}`);
  return stdout.trim();
}

function luajit(args: string[], pageBytes?: number): string {
  return run([...emulated(path.join(root, "usr/bin/luajit"), pageBytes), ...args]);
}

/** What a TypeScript module answers, and how. */
const smoke = (option: string, pageBytes?: number): string =>
  luajit([path.join(SMOKE, "smoke.lua"), SMOKE, option], pageBytes);

const answer = (runtime: string): string =>
  `42\tarm64\t${runtime}\t${stage}/prebuilds/${PLATFORM}/libresty_ts.so`;

const skip = cross === undefined ? "this machine is one: all other suites run on it" : false;

describe("the prebuilt files for linux-arm64", { timeout: 900_000, skip }, () => {
  before(async () => {
    assert.ok(cross !== undefined);
    await ensureCompilers(cross);
    root = await ensureForeign(cross, PROGRAMS);
    for (const part of PACKAGE_PARTS) {
      cpSync(path.join(PROJECT_ROOT, part), path.join(stage, part), { recursive: true });
    }
    symlinkSync(path.join(PROJECT_ROOT, "node_modules"), path.join(stage, "node_modules"));
    const prebuild = path.join(PROJECT_ROOT, "scripts/prebuild.mjs");
    const args = ["--platform", PLATFORM, "--out", path.join(stage, "prebuilds")];
    const made = spawnSync(process.execPath, [prebuild, ...args], { encoding: "utf8" });
    assert.equal(made.status, 0, made.stderr);
  });
  after(() => {
    rmSync(scratch, { recursive: true, force: true });
  });

  it("answer with Node in a thread of LuaJIT's", () => {
    assert.equal(smoke("runtime=embedded"), answer("embedded"));
  });

  it("answer with Node in a process, started by hand", async () => {
    // As a child of LuaJIT it would be started by a clone with CLONE_PIDFD, which qemu 7.2 refuses.
    const socket = path.join(scratch, "host.sock");
    const main = path.join(stage, "dist/cli/main.js");
    const [program, ...args] = emulated(path.join(root, "usr/bin/node"));
    const host = spawn(program, [...args, main, "host", "--listen", socket], { env });
    const ended = new Promise((resolve) => host.once("exit", resolve));
    let printed = "";
    host.stderr.setEncoding("utf8").on("data", (text: string) => (printed += text));
    try {
      await until(
        "the host listens",
        () => existsSync(socket) || undefined,
        PATIENCE_MS,
        () => printed,
      );
      assert.equal(smoke(`connect=${socket}`), answer("process"));
    } finally {
      host.kill("SIGKILL");
      await within("the host ends", ended, PATIENCE_MS);
    }
  });

  it("answer as a bundle, in nginx", async () => {
    const archive = path.join(scratch, "bundle.tar.gz");
    const main = path.join(stage, "dist/cli/main.js");
    const args = [main, "bundle", "--platform", PLATFORM, "--out", archive];
    assert.match(run([process.execPath, ...args]), /bundle\.tar\.gz/);
    const folder = unpackBundle(archive, path.join(scratch, "bundle"));
    const command = emulated(path.join(root, "usr/sbin/nginx"));
    const log = await withSample(
      folder,
      "/hello",
      async (ask) => {
        const reply = await ask("/hello");
        assert.equal(reply.status, 200);
        assert.match(reply.headers.get("x-hello") ?? "", /^from TypeScript in Node \d/);
      },
      { command, options: PATIENT, patienceMs: PATIENCE_MS },
    );
    assert.match(log, /is embedded in the worker: \S*aarch64\S*libnode/);
    assert.doesNotMatch(log, /\[(error|alert|crit|emerg)\]/);
  });

  // Node itself does not start in this qemu with pages of 64 KiB.
  for (const pageBytes of [16_384, 65_536]) {
    it(`make rings where a page has ${pageBytes} bytes, and none smaller than it`, () => {
      const script = `local ffi = require "ffi"
         local native = require "resty.ts.native"
         local lib = assert(native.load())
         local out, view = ffi.new("rts_channel_t *[1]"), ffi.new("rts_view_t")
         print(lib.rts_channel_create(${pageBytes / 2}, 0, out, native.error_args()))
         print(native.error_text())
         assert(lib.rts_channel_create(${pageBytes}, 0, out, native.error_args()) == 0)
         lib.rts_channel_view(out[0], view)
         view.sq[1], view.cq[2] = 11, 22
         print(view.sq[${pageBytes + 1}], view.cq[${pageBytes + 2}])`;
      const printed = luajit(["-e", script], pageBytes);
      const [code, error, bytes] = printed.split("\n");
      assert.equal(code, "-23");
      assert.match(
        error ?? "",
        new RegExp(`a power of two from ${pageBytes}, this machine's page`),
      );
      assert.equal(bytes, "11\t22");
    });
  }

  it("answer with Node in a thread where a page has 16 KiB", () => {
    assert.equal(smoke("runtime=embedded", 16_384), answer("embedded"));
  });
});
