/**
 * `npm run test:matrix` as far as it costs little: what it says where it cannot run, and that nothing is left of it when
 * it is interrupted. This machine's own / stands for Debian 13.
 */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, describe, it } from "node:test";
import { packagesOf } from "../../scripts/lib/matrix.mjs";
import { nameOf } from "../../scripts/lib/root-make.mjs";
import { until, within } from "../support/deadline.js";
import { descendantsOf, isAlive, titleOf } from "../support/proc.js";
import { makeFolder, PROJECT_ROOT } from "../support/project.js";
import { AS_USER, noNamespaces } from "./support.js";

const SCRIPT = path.join(PROJECT_ROOT, "scripts/matrix.mjs");
const scratch = makeFolder("matrix");
after(() => {
  rmSync(scratch, { recursive: true });
});

describe("npm run test:matrix", { timeout: 120_000 }, () => {
  it("says that it needs root, where it has not", () => {
    const run = spawnSync(process.execPath, [...AS_USER, SCRIPT], { encoding: "utf8" });
    assert.equal(run.status, 1);
    assert.equal(run.stdout, "");
    assert.match(run.stderr, /^root file systems .*: run this as root\n$/);
  });

  it("names the distributions that there are", () => {
    const run = spawnSync(process.execPath, [SCRIPT, "--only", "sid"], { encoding: "utf8" });
    assert.equal(run.status, 1);
    assert.equal(run.stderr, "--only sid: bookworm, trixie, forky\n");
  });

  /** One that has nothing but a checksum. */
  function emptyBundle(): string {
    const folder = path.join(scratch, "resty-ts-0");
    mkdirSync(path.join(folder, "lib"), { recursive: true });
    writeFileSync(path.join(folder, "file"), "");
    const sums = execFileSync("sha256sum", ["file"], { cwd: folder });
    writeFileSync(path.join(folder, "SHA256SUMS"), sums);
    const file = path.join(scratch, "bundle.tar.gz");
    execFileSync("tar", ["-czf", file, "-C", scratch, "resty-ts-0"]);
    return file;
  }

  const skip = noNamespaces();
  it("leaves nothing that runs or is mounted when Ctrl-C ends it", { skip }, async () => {
    const roots = path.join(scratch, "roots");
    mkdirSync(roots);
    symlinkSync("/", path.join(roots, "trixie"));
    symlinkSync("/", path.join(roots, nameOf("trixie", packagesOf("trixie"))));
    const args = [SCRIPT, "--only", "trixie", "--bundle", emptyBundle(), "lifecycle/guest"];
    const run = spawn(process.execPath, args, {
      env: { ...process.env, RTS_ROOTS: roots, TMPDIR: scratch },
      detached: true, // a group of its own, as a shell's job has
    });
    let said = "";
    const hear = (text: Buffer): void => void (said += text.toString());
    run.stdout.on("data", hear);
    run.stderr.on("data", hear);
    const ended = new Promise((resolve) => run.once("exit", resolve));
    const pid = run.pid ?? 0;
    // Not those that enter the root, who have the same arguments before anything is mounted.
    const isTest = (one: number): boolean => /^\S+\/node .*--test /s.test(titleOf(one));
    await until(
      "the tests run",
      () => descendantsOf(pid).some(isTest),
      60_000,
      () => said,
    );
    const pids = descendantsOf(pid);
    const mounted = (one: number | "self"): boolean =>
      readFileSync(`/proc/${one}/mounts`, "utf8").includes(scratch);
    assert.ok(mounted(pids.find(isTest) ?? "self"));

    process.kill(-pid, "SIGINT");
    await within("it ends", ended);
    await until("all that it started has ended", () => !pids.some(isAlive));
    assert.ok(!mounted("self"));
  });
});
