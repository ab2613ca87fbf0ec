/**
 * Signals, masks, limits and what else a process has only one of are nginx's in the embedded runtime,
 * whatever JavaScript asks for.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync, renameSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content, plainContent } from "../../support/nginx-config.js";
import { inspect, isAlive, threadsOf } from "../../support/proc.js";

const SIGCHLD = 17;

/** As signal-exit and its like do, and all else that reaches libuv's or V8's handlers. */
const GREEDY = `
import { constants, setPriority } from "node:os";
import { Session } from "node:inspector";
import { Worker, SHARE_ENV } from "node:worker_threads";

process.noDeprecation = true;
process.setMaxListeners(0);
const names = (Object.keys(constants.signals) as NodeJS.Signals[]).filter(
  (name) => name !== "SIGKILL" && name !== "SIGSTOP",
);
const raw: { start(signo: number): number; close(): void }[] = [];
const listener = () => {};

export function listen(): string[] {
  const refused: string[] = [];
  for (const name of names) {
    for (const how of ["on", "once", "addListener", "prependListener", "prependOnceListener"] as const) {
      try {
        process[how](name, listener);
      } catch (error) {
        refused.push(how + " " + name + " " + String(error));
      }
    }
    // Around JavaScript.
    const { Signal } = (process as any).binding("signal_wrap");
    const wrap = new Signal();
    wrap.unref();
    raw.push(wrap);
    wrap.start(constants.signals[name]);
  }
  if (process.report) {
    process.report.signal = "SIGUSR2";
    process.report.reportOnSignal = true;
  }
  return refused;
}

export function unlisten(): void {
  if (process.report) process.report.reportOnSignal = false;
  for (const name of names) process.removeAllListeners(name);
  for (const wrap of raw.splice(0)) wrap.close();
}

export async function profile(): Promise<void> {
  const session = new Session();
  session.connect();
  const post = (method: string) =>
    new Promise<void>((resolve, reject) => {
      session.post(method, (error) => (error ? reject(error) : resolve()));
    });
  await post("Profiler.enable");
  await post("Profiler.start");
  await post("Profiler.stop");
  session.disconnect();
}

export async function thread(): Promise<void> {
  const code = "process.on('SIGTERM', () => {}); process.on('SIGUSR1', () => {}); process.exit(0)";
  const worker = new Worker(code, { eval: true, env: SHARE_ENV });
  await new Promise((resolve) => worker.once("exit", resolve));
}

const attempts: Record<string, () => unknown> = {
  kill: () => process.kill(process.pid, "SIGTERM"),
  killGroup: () => process.kill(0, "SIGTERM"),
  killAll: () => process.kill(-1, "SIGCONT"),
  killOwnGroup: () => process.kill(-Number(require("node:fs").readFileSync("/proc/self/stat", "utf8").replace(/.*\\) /, "").split(" ")[2]), "SIGTERM"),
  rawKill: () => {
    const code = (process as any)._kill(process.pid, 15);
    if (code !== 0) throw new Error(String(code));
  },
  debug: () => (process as any)._debugProcess(process.pid),
  abort: () => process.abort(),
  chdir: () => process.chdir("/"),
  umask: () => process.umask(0o777),
  setuid: () => process.setuid!(65534),
  setgid: () => process.setgid!(65534),
  setgroups: () => process.setgroups!([]),
  initgroups: () => process.initgroups!("nobody", 65534),
  title: () => {
    process.title = "a title";
    if (process.title !== "a title") throw new Error("not set");
  },
  priority: () => setPriority(process.pid, 5),
};

export const kinds = () => Object.keys(attempts);

/** What the attempt is refused with, or "done". */
export function attempt(kind: string): string {
  try {
    attempts[kind]!();
    return "done";
  } catch (error) {
    return String(error);
  }
}

export const probe = () => process.kill(process.pid, 0);

export const umask = () => process.umask();

export function leave(): void {
  process.exit(3);
}
`;

/** Each signal's disposition, as bytes: handler, the mask's first, and flags. */
const DISPOSITIONS = `
  local ffi = require "ffi"
  pcall(ffi.cdef, "int sigaction(int, const void *, void *);")
  local all = {}
  for signo = 1, 31 do
      local action = ffi.new("uint8_t[152]")
      if ffi.C.sigaction(signo, nil, action) == 0 then
          local bytes = ffi.string(action, 16) .. ffi.string(action + 136, 4)
          all[signo] = bytes:gsub(".", function (c)
              return ("%02x"):format(c:byte())
          end)
      else
          all[signo] = "none"
      end
  end
  ngx.say(require("cjson").encode(all))`;

const greedy = (call: string): string => content(`t.reply(ts.import("greedy.ts").${call})`);

const options: NginxOptions = {
  ts: { runtime: "embedded" },
  modules: { "greedy.ts": GREEDY },
  allowLog: [/resty\.ts: .*the environment ended/],
  locations: {
    "/dispositions": plainContent(DISPOSITIONS),
    "/listen": greedy("listen()"),
    "/unlisten": greedy("unlisten()"),
    "/profile": greedy("profile()"),
    "/thread": greedy("thread()"),
    "/leave": greedy("leave()"),
    "/kinds": greedy("kinds()"),
    "/attempt": greedy("attempt(ngx.var.arg_kind)"),
    "/probe": greedy("probe()"),
    "/umask": greedy("umask()"),
    "/children": content(`t.reply(ts.import("children.ts").statuses(10, 5))`),
    "/add": content(`t.reply(ts.import("calc.ts").add(1, 2))`),
    "/large": plainContent(`ngx.print(("x"):rep(20 * 1048576))`),
  },
};

const pathOf = (pid: number, file: string): string =>
  readFileSync(`/proc/${String(pid)}/${file}`, "latin1");

/** Of the process, and of nginx's own thread. */
function belongings(nginx: Nginx): unknown {
  const pid = nginx.workerPid();
  const { caught, ignored, blocked, umask, cwd, title, uid, gid } = inspect(pid);
  const priority = pathOf(pid, "stat").replace(/.*\) /, "").split(" ")[16];
  const groups = /^Groups:.*$/m.exec(pathOf(pid, "status"))?.[0];
  return {
    ...{ caught, ignored, blocked, umask, cwd, title, uid, gid, priority, groups },
    limits: pathOf(pid, "limits"),
  };
}

async function dispositions(nginx: Nginx): Promise<Record<number, string>> {
  const all = await nginx.json<string[]>("/dispositions");
  return Object.fromEntries(all.map((action, i) => [i + 1, action]));
}

async function started(nginx: Nginx): Promise<void> {
  await untilState(nginx, "ready");
  assert.deepEqual(await nginx.json("/add"), { value: 3 });
}

async function endEnvironment(nginx: Nginx): Promise<void> {
  const { lives } = await statsOf(nginx);
  assert.equal((await nginx.json<Answer>("/leave")).code, "exited");
  await until("another environment", async () => (await statsOf(nginx)).lives > lives);
  await started(nginx);
}

const CHANGES = ["/listen", "/profile", "/thread", "/children", "/unlisten"];

describe("in the embedded runtime", () => {
  test("JavaScript changes no signal's disposition, no mask and no limit, nor does an environment's end", async () => {
    const without = await withNginx(
      { locations: { "/dispositions": plainContent(DISPOSITIONS) } },
      dispositions,
    );
    await withNginx(options, async (nginx) => {
      await started(nginx);
      const before = await dispositions(nginx);
      const had = belongings(nginx);
      // Addresses differ from one worker to another, but for those of no function.
      for (const [signo, action] of Object.entries(without)) {
        if (Number(signo) !== SIGCHLD && /^0[01]0{14}/.test(action)) {
          assert.equal(before[Number(signo)], action, `signal ${signo} after the start`);
        }
      }
      const unchanged = async (when: string): Promise<void> => {
        assert.deepEqual(await dispositions(nginx), before, when);
        assert.deepEqual(belongings(nginx), had, when);
        for (const thread of threadsOf(nginx.workerPid()).slice(1)) {
          assert.equal(thread.blocked & 0x7ffbfeffn, 0x7ffbfeffn, `${when}: ${thread.name}`);
        }
      };
      for (const change of CHANGES) {
        const answer = await nginx.json<Answer>(change);
        assert.equal(answer.err, undefined, change);
        await unchanged(`after ${change}`);
      }
      assert.equal((await nginx.json<Answer>("/listen")).err, undefined);
      await endEnvironment(nginx);
      await unchanged("after the environment's end");
    });
  });

  test("a listener for a signal is legal, does nothing, and one line says so", () =>
    withNginx(options, async (nginx) => {
      await started(nginx);
      assert.deepEqual((await nginx.json<Answer<string[]>>("/listen")).value ?? [], {});
      await nginx.json("/listen");
      await nginx.waitForLog(/process\.on\("SIG[A-Z]+"\) does nothing/);
      assert.equal(nginx.errorLog().match(/"\) does nothing/g)?.length, 1);
    }));

  test("with listeners nginx rotates its logs, outlives a client that hangs up, and quits", () =>
    // Over a unix socket, where a write to a client that is gone is a SIGPIPE at once.
    withNginx({ ...options, listen: "unix" }, async (nginx) => {
      await started(nginx);
      const worker = nginx.workerPid();
      // The master tells its workers by a channel; who signals all processes of nginx does not.
      const rotate = async (): Promise<void> => {
        const log = join(nginx.prefix, "logs/error.log");
        renameSync(log, `${log}.${String(Date.now())}`);
        process.kill(worker, "SIGUSR1");
        await until("the worker has opened its log again", () =>
          [...inspect(worker).descriptors.values()].includes(log),
        );
      };
      const hangUp = async (): Promise<void> => {
        const socket = connect(nginx.socketPath!);
        socket.write("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
        await once(socket, "data");
        socket.destroy();
        await once(socket, "close");
      };
      const serves = async (): Promise<void> => {
        await hangUp();
        await rotate();
        assert.deepEqual(await nginx.json("/add"), { value: 3 });
        assert.equal(nginx.workerPid(), worker);
      };
      for (const change of ["/listen", "/unlisten", "/listen"]) {
        await nginx.json(change);
        await serves();
      }
      await endEnvironment(nginx);
      await serves();
      await nginx.json("/listen");
      process.kill(worker, "SIGQUIT");
      await until("the worker has quit", () => !isAlive(worker));
      await started(nginx);
    }));

  test("JavaScript can neither signal the worker nor change what is the process's", () =>
    withNginx(options, async (nginx) => {
      await started(nginx);
      const worker = nginx.workerPid();
      const had = belongings(nginx);
      for (const kind of (await nginx.json<Answer<string[]>>("/kinds")).value!) {
        const { value } = await nginx.json<Answer<string>>(`/attempt?kind=${kind}`);
        assert.notEqual(value, "done", kind);
        assert.deepEqual(belongings(nginx), had, kind);
      }
      assert.equal(nginx.workerPid(), worker);
      const { value } = await nginx.json<Answer<string>>("/attempt?kind=kill");
      assert.match(value ?? "", /kill EPERM: the process is nginx's/);
      assert.deepEqual(await nginx.json("/probe"), { value: true });
      const umask = Number.parseInt(inspect(worker).umask, 8);
      assert.deepEqual(await nginx.json("/umask"), { value: umask });
    }));
});
