/** docs/quick-start.md, read and done on this machine, with the packages of Debian's that are here. */
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { readQuickStart, SHELL, TEMPORARY } from "./quick-start.js";

readQuickStart("on this machine", {
  except: /^apt-get /,
  machine(home, registry) {
    mkdirSync(join(home, TEMPORARY));
    const env = { ...registry.environment(home), TMPDIR: join(home, TEMPORARY) };
    const [shell, ...flags] = SHELL;
    return {
      home,
      start: (commands, folder) =>
        spawn(shell, [...flags, commands], {
          cwd: join(home, folder),
          env,
          // All that runs in a terminal is one group.
          detached: true,
          stdio: ["ignore", "pipe", "pipe"],
        }),
      interrupt: (terminal) => process.kill(-terminal.pid!, "SIGINT"),
    };
  },
});
