/** What another local user may try: the doorbell while it can be connected to, the mapping, the memory. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { chmodSync, rmSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, test } from "node:test";
import { needsRoot } from "../../support/bridge.js";
import { makeFolder, stageProject } from "../../support/project.js";

/** With the sanitizers' libraries, where the suite runs under them. */
const LUAJIT_ENV = { ...process.env, LD_PRELOAD: process.env["RTS_NGINX_PRELOAD"] ?? "" };
const WWW_DATA = 33;
const NOBODY = 65534;

/** Holds a channel whose doorbell listens, until its stdin ends. */
const HOLDER = `
package.path = STAGE .. "/lua/?.lua;" .. package.path
local ffi = require "ffi"
local native = require "resty.ts.native"
local lib = assert(native.load())
local out = ffi.new("rts_channel_t *[1]")
assert(lib.rts_channel_create(65536, 0, out, native.error_args()) == 0)
local path, length = ffi.new("char[108]"), ffi.new("size_t[1]", 108)
assert(lib.rts_bell_listen(out[0], "/tmp", path, length, native.error_args()) == 0)
print(ffi.string(path, tonumber(length[0])))
io.stdout:flush()
io.read()
print(lib.rts_bell_accept(out[0], native.error_args()))
lib.rts_channel_destroy(out[0])
`;

/** Tries each way in; says how it went: a code, or "open". */
const INTRUDER = `
const fs = require("fs"), net = require("net"), path = require("path");
const [pid, socket] = process.argv.slice(1);
const said = {};
const attempt = (name, f) => { try { f(); said[name] = "open"; } catch (error) { said[name] = error.code; } };
attempt("folder", () => fs.readdirSync(path.dirname(socket)));
attempt("descriptors", () => fs.readdirSync("/proc/" + pid + "/fd"));
for (let fd = 3; fd < 10; fd++)
  attempt("descriptor " + fd, () => fs.closeSync(fs.openSync("/proc/" + pid + "/fd/" + fd, "r+")));
attempt("memory", () => fs.closeSync(fs.openSync("/proc/" + pid + "/mem", "r+")));
attempt("mappings", () => fs.readdirSync("/proc/" + pid + "/map_files"));
const end = (how) => { said.doorbell = how; console.log(JSON.stringify(said)); process.exit(); };
net.connect(socket).on("connect", () => end("open")).on("error", (error) => end(error.code));
`;

describe("another local user", { skip: needsRoot }, () => {
  let stage = "";
  let holder: ChildProcess;
  let lines: AsyncIterator<string>;
  let socket = "";

  const next = async (): Promise<string> => String((await lines.next()).value);
  const intrude = (uid: number): Record<string, string> => {
    const args = ["-e", INTRUDER, "--", String(holder.pid), socket];
    const { stdout, stderr } = spawnSync(process.execPath, args, {
      uid,
      gid: uid,
      cwd: "/",
      encoding: "utf8",
    });
    assert.equal(stderr, "");
    return JSON.parse(stdout) as Record<string, string>;
  };

  before(async () => {
    stage = stageProject();
    holder = spawn("luajit", ["-e", `local STAGE = "${stage}"\n${HOLDER}`], {
      uid: WWW_DATA,
      gid: WWW_DATA,
      cwd: "/",
      env: LUAJIT_ENV,
      stdio: ["pipe", "pipe", "inherit"],
    });
    lines = createInterface({ input: holder.stdout! })[Symbol.asyncIterator]();
    socket = await next();
  });

  after(() => {
    holder.kill("SIGKILL");
    rmSync(dirname(socket), { recursive: true, force: true });
    rmSync(stage, { recursive: true, force: true });
  });

  test("reaches neither the doorbell nor the mapping", () => {
    const said = intrude(NOBODY);
    assert.equal(Object.keys(said).length, 12);
    for (const [way, how] of Object.entries(said)) {
      assert.ok(how === "EACCES" || how === "EPERM", `${way}: ${how}`);
    }
  });

  test("of the same id connects to the doorbell, and is sent away as another process", async () => {
    const said = intrude(WWW_DATA);
    assert.equal(said.folder, "open");
    assert.equal(said.doorbell, "open");
    holder.stdin!.write("\n");
    assert.ok(Number(await next()) < 0);
  });

  test("who listens where a host is expected is given nothing", async () => {
    const folder = makeFolder("host");
    chmodSync(folder, 0o777);
    const path = join(folder, "host");
    const cli = join(stage, "dist/cli/main.js");
    const host = spawn(process.execPath, [cli, "host", "--listen", path], {
      ...{ uid: WWW_DATA, gid: WWW_DATA, cwd: "/" },
      stdio: ["ignore", "pipe", "inherit"],
    });
    try {
      const said = createInterface({ input: host.stdout })[Symbol.asyncIterator]();
      assert.match(String((await said.next()).value), /listens at/);
      assert.equal(statSync(path).mode & 0o777, 0o600);
      chmodSync(path, 0o666); // so that only who it is stands in the way
      const start = (uid: number): string => {
        const code = `package.path = "${stage}/lua/?.lua;" .. package.path
          print(require("resty.ts").start { modules = "/", connect = "${path}" })`;
        const options = { uid, gid: uid, cwd: "/", env: LUAJIT_ENV, encoding: "utf8" } as const;
        return spawnSync("luajit", ["-e", code], options).stdout;
      };
      assert.match(start(NOBODY), /nil\s.*who listens there is another user/);
      assert.match(start(WWW_DATA), /^true/);
    } finally {
      host.kill("SIGKILL");
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
