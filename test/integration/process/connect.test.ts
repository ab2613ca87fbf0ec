/** A host that is started by hand: workers find it, lose it, and find it again. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until, within } from "../../support/deadline.js";
import { withNginx, type NginxOptions } from "../../support/nginx.js";
import { content } from "../../support/nginx-config.js";
import { inspect } from "../../support/proc.js";
import { makeFolder, PROJECT_ROOT } from "../../support/project.js";

const CLI = join(PROJECT_ROOT, "dist/cli/main.js");
const START_MS = 15_000;

/** A started host and the lines that it prints. */
class Host {
  readonly #child: ChildProcess;
  readonly #lines: string[] = [];
  #closed = false;

  constructor(path: string, ...nodeArgs: string[]) {
    this.#child = spawn(process.execPath, [...nodeArgs, CLI, "host", "--listen", path], {
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      createInterface({ input: stream! }).on("line", (line) => this.#lines.push(line));
    }
    this.#child.once("close", () => (this.#closed = true));
  }

  get pid(): number {
    return this.#child.pid ?? assert.fail("the host could not be run");
  }

  get exitCode(): number | null {
    return this.#child.exitCode;
  }

  async says(pattern: RegExp): Promise<void> {
    const said = (): boolean => this.#lines.some((line) => pattern.test(line));
    const all = (): string => this.#lines.join("\n");
    await until(`the host says ${String(pattern)}`, () => said() || this.#closed, START_MS, all);
    assert.ok(said(), all());
  }

  async end(signal: NodeJS.Signals = "SIGTERM"): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, "exit");
    this.#child.kill(signal);
    await within("the host ends", exited, START_MS);
  }
}

/** Runs with a path for a socket, and a way to start hosts that end when it does. */
async function withHosts(
  run: (path: string, start: (...nodeArgs: string[]) => Promise<Host>) => Promise<void>,
): Promise<void> {
  const folder = makeFolder("host");
  const hosts: Host[] = [];
  const path = join(folder, "host.sock");
  try {
    await run(path, async (...nodeArgs) => {
      const host = new Host(path, ...nodeArgs);
      hosts.push(host);
      await host.says(/listens at/);
      return host;
    });
  } finally {
    for (const host of hosts) await host.end("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
  }
}

const options = (connect: string): NginxOptions => ({
  ts: { connect, stall_ms: 100, timeout_ms: 20_000 },
  allowLog: [/did not start/, /crash loop/, /environment ended/, /handler that stalled/],
  locations: {
    "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
    "/about": content(`t.reply(ts.import("env.ts").about())`),
    "/exit": content(`t.reply(ts.import("faults.ts").exit(3))`),
    "/loaded": content(`t.reply(ts.import("wait.ts").sleep(0))`),
    "/spin": content(`t.reply(ts.call(ts.import("wait.ts").spinForever, { timeout_ms = 1000 }))`),
  },
});

describe("a host that is started by hand", () => {
  test("serves from when it is there, and again after it was restarted", () =>
    withHosts((path, start) =>
      withNginx(options(path), async (nginx) => {
        const worker = nginx.workerPid();
        await untilState(nginx, "backing_off");
        const missing = await nginx.json<Answer>("/add");
        assert.equal(missing.code, "unavailable");
        assert.match(missing.err ?? "", /no host at \S*host\.sock: nobody listens there/);

        for (const end of ["SIGTERM", "SIGKILL"] as const) {
          const host = await start();
          await untilState(nginx, "ready");
          assert.deepEqual(await nginx.json("/add"), { value: 3 });
          assert.equal((await nginx.json<Answer<{ pid: number }>>("/about")).value?.pid, host.pid);
          const { process_id, runtime } = await statsOf(nginx);
          assert.deepEqual({ process_id, runtime }, { process_id: host.pid, runtime: "process" });
          await host.end(end);
          await until("it is missed", async () => (await statsOf(nginx)).state !== "ready");
        }
        assert.equal(nginx.workerPid(), worker);
      }),
    ));

  test("runs under a debugger", () =>
    withHosts(async (path, start) => {
      const host = await start("--inspect=127.0.0.1:0");
      await host.says(/Debugger listening on ws:/);
      await withNginx(options(path), async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      });
    }));

  test("outlives environments and workers, and nothing is left of them", () =>
    withHosts(async (path, start) => {
      const host = await start();
      // libuv's pool comes with its first use, and stays.
      const count = (): number =>
        inspect(host.pid).threads.filter(({ name }) => name !== "libuv-worker").length;
      const threads = count();
      await withNginx({ ...options(path), workers: 2 }, async (nginx) => {
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
      });
      await withNginx(options(path), async (nginx) => {
        await untilState(nginx, "ready");
        assert.equal((await nginx.json<Answer>("/exit")).code, "exited");
        await untilState(nginx, "ready");
        assert.deepEqual(await nginx.json("/loaded"), { value: 0 });
        assert.match((await nginx.json<Answer>("/spin")).code ?? "", /^(timeout|stalled)$/);
        await nginx.waitForLog(/the handler that stalled:\n +at \S*spinForever \(\S*wait\.ts:/);
        await untilState(nginx, "ready");
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal((await statsOf(nginx)).process_id, host.pid);
      });
      await until("their threads are gone", () => count() === threads);
      const memory = [...inspect(host.pid).descriptors.values()].filter((name) =>
        name.startsWith("/memfd:"),
      );
      assert.deepEqual(memory, []);
      assert.equal(host.exitCode, null);
    }));

  test("is one at a path, and makes way for none but itself", () =>
    withHosts(async (path, start) => {
      const first = await start();
      await assert.rejects(start(), /already in use/);
      await first.end("SIGKILL");
      await (await start()).end(); // takes what is left of the first
      writeFileSync(path, "somebody's");
      await assert.rejects(start(), /already in use/);
    }));
});
