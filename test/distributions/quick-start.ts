/**
 * docs/quick-start.md in a fresh Debian: scripts/quick-start.mjs has made the root file system, which
 * has the packages that the page names, no compiler, and nothing of this project. The reader's home
 * alone is kept from one command to the next.
 */
import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { captureIn, type Place, spawnIn } from "../../scripts/lib/root.mjs";
import { readQuickStart, SHELL, TEMPORARY } from "../integration/guide/quick-start.js";
import { descendantsOf, titleOf } from "../support/proc.js";

const HOME = "/root";
const { RTS_QUICK_ROOT: root = "", RTS_QUICK_PREBUILDS: prebuilds = "" } = process.env;

test("the root has no compiler and nothing of ours", () => {
  const script = "command -v cc c++ gcc g++ clang make; find / -xdev -name 'resty*ts*'";
  const { stdout } = captureIn(root, ["sh", "-c", script]);
  assert.equal(stdout, "");
});

readQuickStart("in a fresh Debian", {
  prebuilds,
  machine(home, registry) {
    mkdirSync(join(home, TEMPORARY));
    const places: Place[] = [{ how: "write", from: home, to: HOME }];
    const { PATH: _ours, npm_config_ignore_scripts: _run, ...npm } = registry.environment(HOME);
    const env = { ...npm, TMPDIR: join(HOME, TEMPORARY) };
    return {
      home,
      start: (commands, folder) =>
        spawnIn(root, [...SHELL, commands], {
          places,
          env,
          cwd: join(HOME, folder),
          stdio: ["ignore", "pipe", "pipe"],
        }),
      // Signals do not get through the process that holds the namespaces: those who would get them do.
      interrupt(terminal) {
        for (const pid of descendantsOf(terminal.pid!)) {
          if (/^(npm|node|sh -c|bash) .*resty-ts dev/.test(titleOf(pid)))
            process.kill(pid, "SIGINT");
        }
      },
    };
  },
});
