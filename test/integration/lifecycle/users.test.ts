/** Workers of other users than the one who built the project, alone and side by side. */
import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { needsRoot, type Answer } from "../../support/bridge.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { inspect } from "../../support/proc.js";
import { stageProject } from "../../support/project.js";

const locations = {
  "/add": content(`t.reply(ts.import("calc.ts").addLater(1, 2))`),
  "/about": content(`t.reply(ts.import("env.ts").about())`),
  "/children": content(`t.reply(ts.import("children.ts").statuses(5, 5))`),
};

describe("users", { skip: needsRoot }, () => {
  let stage = "";
  // The checkout may be closed to them: they use a copy.
  before(() => {
    stage = stageProject();
  });
  after(() => {
    rmSync(stage, { recursive: true, force: true });
  });

  const optionsFor = (user: string): NginxOptions => ({
    user,
    projectRoot: stage,
    ts: {},
    locations,
  });

  async function assertServes(nginx: Nginx): Promise<void> {
    for (let i = 0; i < 20; i++) assert.deepEqual(await nginx.json("/add"), { value: 3 });
    assert.deepEqual(await nginx.json("/children"), { value: [0, 1, 2, 3, 4] });
    const worker = inspect(nginx.workerPid());
    assert.notEqual(worker.uid, 0);
    const about = await nginx.json<Answer<{ pid: number }>>("/about");
    assert.equal(about.value?.pid, worker.pid);
    const library = worker.mappings.find((file) => file.endsWith("/libresty_ts.so"));
    // Under sanitizers the library is theirs.
    const folder = process.env["LUA_CPATH"]?.replace(/\/\?\.so.*/, "") ?? stage;
    assert.ok(library?.startsWith(folder), library);
  }

  test("a worker that runs as nobody serves, also after a reload", () =>
    withNginx(optionsFor("nobody nogroup"), async (nginx) => {
      await assertServes(nginx);
      await nginx.reload();
      await assertServes(nginx);
    }));

  test("a worker that runs as nobody serves in a directory that it may not write", () =>
    withNginx({ ...optionsFor("nobody nogroup"), cwd: "/" }, async (nginx) => {
      assert.equal(inspect(nginx.workerPid()).cwd, "/");
      await assertServes(nginx);
    }));

  test("two nginx of different users serve side by side", () =>
    withNginx(optionsFor("nobody nogroup"), (one) =>
      withNginx(optionsFor("www-data www-data"), async (other) => {
        await Promise.all([assertServes(one), assertServes(other)]);
        assert.notEqual(inspect(one.workerPid()).uid, inspect(other.workerPid()).uid);
        await Promise.all([one.reload(), other.reload()]);
        await Promise.all([assertServes(one), assertServes(other)]);
        await other.quit();
        await assertServes(one);
      }),
    ));
});
