/** One host process for all workers of an nginx. */
import assert from "node:assert/strict";
import { chownSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { needsRoot, statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { NODE_START_MS, NODES } from "../../support/nodes.js";
import { isAlive, sessionMembers, titleOf } from "../../support/proc.js";
import { makeFolder } from "../../support/project.js";

const WORKERS = 3;
const NOBODY = 65534;

interface Seen {
  worker: number;
  host: number;
  thread: number;
}

const options = (folder: string): NginxOptions => ({
  workers: WORKERS,
  ts: { shared: true, runtime_dir: folder, stall_ms: 100, timeout_ms: 20_000 },
  allowLog: [
    ...[/environment ended/, /handler that stalled/, /exited on signal 9/, /did not start/],
    // Of a host that is killed, too, the socket lives a little longer than the rest.
    /crash loop/,
  ],
  modules: {
    "who.ts": `
      import { execFileSync } from "node:child_process";
      import { resourceLimits, threadId } from "node:worker_threads";
      export const young = () => resourceLimits.maxYoungGenerationSizeMb;
      export const who = () => ({ host: process.pid, thread: threadId });
      export const spin = () => { for (;;); };
      export const block = (gate: string) =>
        execFileSync("sh", ["-c", "while [ ! -e " + gate + " ]; do sleep 0.05; done"]);`,
  },
  locations: {
    "/who": content(`
      local who, err, code = ts.import("who.ts").who()
      if who then
          who.worker = ngx.worker.pid()
      end
      t.reply(who, err, code)`),
    "/young": content(`t.reply(ts.import("who.ts").young())`),
    "/exit": content(`t.reply(ts.import("faults.ts").exit(3))`),
    "/fill": content(`t.reply(ts.import("crash.ts").fill())`),
    "/block": content(`
      t.reply(ts.call(ts.import("who.ts").block, { timeout_ms = 100 }, ngx.config.prefix() .. "gate"))`),
    "/spin": content(`t.reply(ts.import("who.ts").spin())`),
  },
});

/** What each worker says of its host, once all have answered. */
async function everybody(nginx: Nginx, workers = WORKERS): Promise<Map<number, Seen>> {
  const seen = new Map<number, Seen>();
  await until("each worker has answered", async () => {
    const { value } = await nginx.json<Answer<Seen>>("/who");
    if (value !== undefined) seen.set(value.worker, value);
    return seen.size >= workers;
  });
  return seen;
}

function theOne(seen: Map<number, Seen>): number {
  const hosts = new Set([...seen.values()].map(({ host }) => host));
  assert.equal(hosts.size, 1);
  return [...hosts][0]!;
}

async function withFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = makeFolder("shared");
  try {
    await run(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function isGone(host: number, folder: string): Promise<void> {
  await until("the host is gone", () => !isAlive(host));
  assert.deepEqual(readdirSync(folder), []);
}

describe("a host that all workers share", () => {
  test("is one process with an environment for each, and goes when the last has gone", () =>
    withFolder(async (folder) => {
      let host = 0;
      await withNginx(options(folder), async (nginx) => {
        const seen = await everybody(nginx);
        host = theOne(seen);
        assert.equal(new Set([...seen.values()].map(({ thread }) => thread)).size, WORKERS);
        const { process_id, runtime } = await statsOf(nginx);
        assert.deepEqual({ process_id, runtime }, { process_id: host, runtime: "process" });
      });
      await isGone(host, folder);
    }));

  test(
    "has a folder that tells of nothing, and another where that is somebody else's",
    { skip: needsRoot },
    () =>
      withFolder(async (folder) => {
        await withNginx(options(folder), async (nginx) => {
          const host = theOne(await everybody(nginx));
          const own = (): string[] => readdirSync(folder).filter((name) => /shared/.test(name));
          const [first] = own();
          assert.match(first ?? "", /^resty-ts-shared-0-[0-9a-f]{16}$/);
          chownSync(join(folder, first!), NOBODY, NOBODY);
          process.kill(host, "SIGKILL");
          await until("the host is gone", () => !isAlive(host));
          assert.notEqual(theOne(await everybody(nginx)), host);
          assert.equal(own().length, 2);
          rmSync(join(folder, first!), { recursive: true });
        });
      }),
  );

  test("is found by the workers of a reload", () =>
    withFolder(async (folder) => {
      let host = 0;
      await withNginx(options(folder), async (nginx) => {
        const before = await everybody(nginx);
        host = theOne(before);
        process.kill(nginx.masterPid, "SIGHUP");
        const after = new Map<number, Seen>();
        await until("each new worker has answered", async () => {
          const { value } = await nginx.json<Answer<Seen>>("/who");
          if (value !== undefined && !before.has(value.worker)) after.set(value.worker, value);
          return after.size === WORKERS;
        });
        assert.equal(theOne(after), host);
      });
      await isGone(host, folder);
    }));

  test("is followed by another when two of its environments are blocked in native code", () =>
    withFolder(async (folder) => {
      await withNginx(options(folder), async (nginx) => {
        const host = theOne(await everybody(nginx));
        await until("it is gone", async () => {
          await nginx.json("/block");
          return !isAlive(host);
        });
        await until("all have another", async () => {
          const seen = await everybody(nginx);
          return [...seen.values()].every((one) => one.host !== host);
        });
        writeFileSync(join(nginx.prefix, "gate"), "");
        await until(
          "the children have ended",
          () => !sessionMembers(nginx.masterPid).some((pid) => titleOf(pid).startsWith("sh -c")),
        );
      });
    }));

  test("outlives the worker that started it, and environments that end", () =>
    withFolder(async (folder) => {
      const { ts, ...rest } = options(folder);
      const limited = { ...rest, ts: { ...(ts as object), max_heap_mb: 64 }, workers: 1 };
      await withNginx(limited, async (nginx) => {
        const host = theOne(await everybody(nginx, 1));
        for (const path of ["/exit", "/fill"]) {
          await untilState(nginx, "ready");
          assert.equal((await nginx.json<Answer>(path)).code, "exited");
        }
        assert.equal(theOne(await everybody(nginx, 1)), host);
        await nginx.killWorker();
        assert.equal(theOne(await everybody(nginx, 1)), host);
      });
    }));

  for (const { major, node, skip } of NODES) {
    test(`goes on when an environment's heap is full, on Node ${String(major)}`, { skip }, () =>
      withFolder(async (folder) => {
        const { ts, ...rest } = options(folder);
        const runtime = { runtime: "process", node, start_timeout_ms: NODE_START_MS };
        const limited = { ...(ts as object), ...runtime, max_heap_mb: 64 };
        await withNginx({ ...rest, ts: limited, workers: 1 }, async (nginx) => {
          await untilState(nginx, "ready", NODE_START_MS);
          const host = theOne(await everybody(nginx, 1));
          // A third of it may be promoted, in the 16 MiB that Node gives an environment to end in.
          const { value } = await nginx.json<Answer<number>>("/young");
          assert.ok(value! <= 48, `${String(value)} MB`);
          for (let i = 0; i < 2; i++) {
            await untilState(nginx, "ready");
            assert.equal((await nginx.json<Answer>("/fill")).code, "exited");
          }
          assert.equal(theOne(await everybody(nginx, 1)), host);
        });
      }),
    );
  }

  test("is followed by one other when it is killed", () =>
    withFolder(async (folder) => {
      let host = 0;
      await withNginx(options(folder), async (nginx) => {
        const before = await everybody(nginx);
        const first = theOne(before);
        process.kill(first, "SIGKILL");
        await until("it is gone", () => !isAlive(first));
        const after = new Map<number, Seen>();
        await until("each worker has another host", async () => {
          const { value } = await nginx.json<Answer<Seen>>("/who");
          if (value !== undefined && value.host !== first) after.set(value.worker, value);
          return after.size === WORKERS;
        });
        host = theOne(after);
        assert.deepEqual([...after.keys()].sort(), [...before.keys()].sort());
      });
      await isGone(host, folder);
    }));

  test("does not outlive its workers when a handler loops and they are killed", () =>
    withFolder(async (folder) => {
      let host = 0;
      await withNginx({ ...options(folder), workers: 1 }, async (nginx) => {
        host = theOne(await everybody(nginx, 1));
        nginx.ask("/spin").catch(() => undefined);
        await until("it loops", async () => (await statsOf(nginx)).pending === 1);
        await nginx.killWorker();
        assert.equal(theOne(await everybody(nginx, 1)), host);
      });
      await isGone(host, folder);
    }));
});
