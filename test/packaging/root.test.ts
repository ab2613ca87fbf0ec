/**
 * Root file systems to run commands in: what they write reaches nobody, and nothing of them runs or stays
 * mounted when who started them is killed. This machine's own / stands for one that debootstrap made.
 */
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, describe, it } from "node:test";
import { captureIn, type Place } from "../../scripts/lib/root.mjs";
import { until } from "../support/deadline.js";
import { descendantsOf, isAlive } from "../support/proc.js";
import { makeFolder, PROJECT_ROOT } from "../support/project.js";
import { AS_USER, noNamespaces } from "./support.js";

const scratch = makeFolder("root");
after(() => {
  rmSync(scratch, { recursive: true });
});
process.env.RTS_ROOTS = path.join(scratch, "roots");

const MODULE = path.join(PROJECT_ROOT, "scripts/lib/root.mjs");
function sh(script: string, places: Place[] = []): string {
  const { ok, stdout, stderr } = captureIn("/", ["sh", "-euc", script], { places });
  assert.ok(ok, stderr);
  return stdout.trim();
}

describe("a command in a root file system", { skip: noNamespaces() }, () => {
  const from = path.join(scratch, "from");
  mkdirSync(from);
  writeFileSync(path.join(from, "file"), "as it was");

  it("has processes and devices of its own, and what it writes is gone with it", () => {
    const file = path.join(scratch, "written");
    const script = `echo text > ${file}; cat ${file}; ls /proc | grep -c '^[0-9]'; echo > /dev/null; ls /dev/pts`;
    const [text, processes, ...terminals] = sh(script).split("\n");
    assert.equal(text, "text");
    assert.ok(Number(processes) < 10, processes);
    assert.deepEqual(terminals, ["ptmx"]);
    assert.ok(!existsSync(file));
  });

  it("can read a place and not write to it, or write to a copy, or to the place itself", () => {
    const places = (["read", "copy", "write"] as const).map((how) => ({
      how,
      from,
      to: `/${how}`,
    }));
    places.push({ how: "empty", from: "", to: "/copy/empty" } as never);
    const script = `! echo no > /read/file; echo copied > /copy/file; cat /read/file /copy/file
      ls -A /copy/empty; echo whole > /write/new`;
    assert.equal(sh(script, places), "as it was" + "copied");
    assert.equal(readFileSync(path.join(from, "file"), "utf8"), "as it was");
    assert.deepEqual(readFileSync(path.join(from, "new"), "utf8"), "whole\n");
  });

  it("leaves nothing that runs or is mounted, when who started it is killed", async () => {
    const ready = path.join(from, "ready");
    const script = `setsid sh -c 'echo $0 > /from/ready; exec sleep 1000' ${path.basename(scratch)}; sleep 1000`;
    const code = `import { spawnIn } from ${JSON.stringify(MODULE)};
      const places = [{ how: "write", from: ${JSON.stringify(from)}, to: "/from" }];
      const child = spawnIn("/", ["sh", "-c", ${JSON.stringify(script)}], { places, stdio: "inherit" });
      console.log(child.pid);`;
    const starter = spawn(process.execPath, ["--input-type=module", "-e", code]);
    const pid = await new Promise<number>((resolve) =>
      starter.stdout.once("data", (text: Buffer) => resolve(Number(text.toString()))),
    );
    await until("it runs", () => existsSync(ready));
    const pids = [pid, ...descendantsOf(pid)];
    assert.ok(pids.length >= 4, String(pids));
    const namespace = path.join("/proc", String(pids.at(-1)), "mounts");
    assert.ok(readFileSync(namespace, "utf8").includes("overlay"));

    starter.kill("SIGKILL");
    await until("all have ended", () => !pids.some(isAlive));
    assert.ok(!readFileSync("/proc/mounts", "utf8").includes(scratch));
  });
});

describe("without root", () => {
  it("it is said that root is needed, before anything is made", () => {
    const code = `const { ensureRoot } = await import(${JSON.stringify(MODULE.replace("root.mjs", "root-make.mjs"))});
      await ensureRoot("bookworm").catch(({ message }) => console.log(message));`;
    const args = [...AS_USER, "--input-type=module", "-e", code];
    const { stdout } = spawnSync(process.execPath, args, { encoding: "utf8" });
    assert.match(stdout, /run this as root/);
    assert.ok(!existsSync(path.join(scratch, "roots", "bookworm")));
  });
});
