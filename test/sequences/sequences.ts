/**
 * Random things done to a worker at random moments in the first second of its life, one sequence
 * after the other, while its plain location is asked all the time. What must hold: no process ends
 * by a signal that nobody sent, nginx answers, and after each sequence the worker's calls do.
 *
 * The actions and their moments come from the seed; what they meet does not.
 */
import { availableParallelism, loadavg } from "node:os";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Random } from "../fuzz/random.js";
import { sleep, until } from "../support/deadline.js";
import { Nginx } from "../support/nginx.js";
import { content } from "../support/nginx-config.js";
import { childrenOf } from "../support/proc.js";

export type Runtime = "embedded" | "process";

export interface Options {
  runtime: Runtime;
  sequences: number;
  seed: number;
  say: (text: string) => void;
}

export interface Report {
  actions: number;
  failures: string[];
  /** The plain location's longest wait, without what our own process could not look; in ms. */
  longestWaitMs: number;
  /** How long after a sequence the worker's calls were answered, at most; in ms. */
  longestRecoveryMs: number;
}

const FIRST_SECOND_MS = 1000;
const MOST_ACTIONS = 5;
const MOST_PAUSE_MS = 300;
/** What counts as a hang of nginx, where no more runs than there are cores; and as a worker that
 * refuses for good. */
const HANG_MS = 2000;
const REFUSES_MS = 30_000;

/** What nginx's worker handles, or ignores. */
const SIGNALS = [
  ...(["SIGTERM", "SIGINT", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGHUP", "SIGWINCH"] as const),
  ...(["SIGALRM", "SIGCHLD", "SIGIO", "SIGPIPE", "SIGURG", "SIGCONT"] as const),
];
/** Of os.exit: nginx's master starts no other worker after a 2. */
const EXIT_CODES = [0, 1, 3];

interface Scene {
  nginx: Nginx;
  random: Random;
}

type Action = [name: string, act: (scene: Scene) => unknown];

/** Signals one that may have ended meanwhile. */
function signal(pid: number | undefined, name: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}

async function pause(scene: Scene, pid: number | undefined): Promise<void> {
  if (pid === undefined) return;
  signal(pid, "SIGSTOP");
  await sleep(scene.random.below(MOST_PAUSE_MS));
  signal(pid, "SIGCONT");
}

const newest = ({ nginx }: Scene): number | undefined => nginx.workerPids().at(-1);
/** The worker may end under it. */
const request = ({ nginx }: Scene, path: string): Promise<unknown> =>
  nginx.ask(path).catch(() => undefined);

const ACTIONS: Action[] = [
  ["call", (scene) => request(scene, "/add")],
  ["plugin", (scene) => request(scene, "/plugin")],
  ["stop", (scene) => request(scene, "/stop")],
  ["start", (scene) => request(scene, "/start")],
  ["exit", (scene) => request(scene, `/exit?code=${scene.random.pick(EXIT_CODES)}`)],
  ["process.exit", (scene) => request(scene, "/process-exit")],
  ["pause", (scene) => pause(scene, newest(scene))],
  ["reload", ({ nginx }) => signal(nginx.masterPid, "SIGHUP")],
  ["kill", (scene) => signal(newest(scene), "SIGKILL")],
  ["signal", (scene) => signal(newest(scene), scene.random.pick(SIGNALS))],
];
const OF_PROCESS: Action[] = [
  [
    "host paused",
    (scene) => pause(scene, scene.random.pick([...childrenOf(newest(scene) ?? 0), undefined])),
  ],
  [
    "host killed",
    (scene) => signal(scene.random.pick([...childrenOf(newest(scene) ?? 0), undefined]), "SIGKILL"),
  ],
];

const options = (runtime: Runtime): Parameters<typeof Nginx.start>[0] => ({
  files: {
    "plugins/tag.ts": `
      import { definePlugin } from "resty-ts";
      export default definePlugin({ name: "tag", access() { return new Response("tagged"); } });`,
  },
  initWorker: `
    local t = require "support"
    package.loaded.begin = function() return t.start { runtime = "${runtime}", plugins = "plugins" } end
    package.loaded.begin()`,
  main: "worker_shutdown_timeout 5s;",
  allowLog: [/./],
  locations: {
    "= /plain": `return 200 "plain";`,
    "= /add": content(`t.reply(ts.call(ts.import("calc.ts").add, { timeout_ms = 2000 }, 1, 2))`),
    "= /plugin": `access_by_lua_block { require("resty.ts.http").access("tag") } ${content(`ngx.print("through")`)}`,
    "= /stop": content(`t.reply(ts.stop())`),
    "= /start": content(`t.reply(package.loaded.begin())`),
    "= /exit": content(`os.exit(tonumber(ngx.var.arg_code))`),
    "= /process-exit": content(`t.reply(ts.import("faults.ts").exit(3))`),
  },
});

/** Asks the plain location until told to stop. */
class Prober {
  longestMs = 0;
  #running = true;
  readonly #done: Promise<void>;

  constructor(nginx: Nginx) {
    this.#done = this.#run(nginx);
  }

  async #run(nginx: Nginx): Promise<void> {
    const delay = monitorEventLoopDelay({ resolution: 5 });
    delay.enable();
    let since = performance.now();
    while (this.#running) {
      delay.reset();
      // A worker that ends has its connections closed: then the next one is asked.
      const answered = await nginx.ask("/plain").then(
        ({ status }) => status === 200,
        () => false,
      );
      const now = performance.now();
      if (answered) {
        this.longestMs = Math.max(this.longestMs, now - since - delay.max / 1e6);
        since = performance.now();
      }
      await sleep(2);
    }
    delay.disable();
  }

  /** @returns the longest wait since the last time. */
  take(): number {
    const longest = this.longestMs;
    this.longestMs = 0;
    return longest;
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#done;
  }
}

/** A worker that has just begun. */
async function fresh(scene: Scene): Promise<void> {
  const { nginx, random } = scene;
  const before = nginx.workerPids();
  if (random.once(2)) signal(newest(scene), "SIGKILL");
  else nginx.signal("SIGHUP");
  await until("a worker has begun", () => nginx.workerPids().some((pid) => !before.includes(pid)));
}

async function serves(nginx: Nginx): Promise<boolean> {
  try {
    await nginx.ask("/start"); // it may have been stopped
    const { value } = await nginx.json<{ value?: unknown }>("/add");
    return value === 3 && (await nginx.ask("/plugin")).text === "tagged";
  } catch {
    return false; // the worker has ended
  }
}

const OURS = /exited on signal (?:9\b|15\b)/;

/** Ends that nobody wanted. */
function crashes(log: string): string[] {
  return log
    .split("\n")
    .filter((line) => /exited on signal|exited with fatal code|cannot be respawned/.test(line))
    .filter((line) => !OURS.test(line));
}

export async function runSequences({ runtime, sequences, seed, say }: Options): Promise<Report> {
  const random = new Random(seed);
  const nginx = await Nginx.start(options(runtime));
  const report: Report = { actions: 0, failures: [], longestWaitMs: 0, longestRecoveryMs: 0 };
  const prober = new Prober(nginx);
  const list = runtime === "process" ? [...ACTIONS, ...OF_PROCESS] : ACTIONS;
  let known = 0;
  try {
    for (let number = 0; number < sequences; number++) {
      const scene: Scene = { nginx, random };
      const plan = Array.from({ length: 1 + random.below(MOST_ACTIONS) }, () => ({
        at: random.below(FIRST_SECOND_MS),
        action: random.pick(list),
      })).sort((a, b) => a.at - b.at);
      const title = `sequence ${number} of seed ${seed}, ${runtime}: ${plan.map(({ at, action }) => `${action[0]} at ${at}`).join(", ")}`;
      const fail = (what: string): void => {
        report.failures.push(`${title}: ${what}`);
        say(`FAILURE ${title}: ${what}\n${nginx.errorLog().slice(-3000)}`);
      };
      await fresh(scene);
      const began = performance.now();
      await Promise.all(
        plan.map(async ({ at, action: [, act] }) => {
          await sleep(at - (performance.now() - began));
          await act(scene);
        }),
      );
      report.actions += plan.length;
      const ended = performance.now();
      await until("the worker serves", () => serves(nginx), REFUSES_MS).catch((error: unknown) => {
        fail(String(error));
      });
      report.longestRecoveryMs = Math.max(report.longestRecoveryMs, performance.now() - ended);
      const waited = prober.take();
      report.longestWaitMs = Math.max(report.longestWaitMs, waited);
      const share = Math.max(1, loadavg()[0]! / availableParallelism());
      if (waited > HANG_MS * share) fail(`nginx answered nobody for ${waited.toFixed(0)} ms`);
      const ends = crashes(nginx.errorLog());
      for (const line of ends.slice(known)) fail(line);
      known = ends.length;
      if ((number + 1) % 50 === 0) say(`${runtime}: ${number + 1} sequences`);
    }
  } finally {
    await prober.stop();
    const problems = await nginx.stop().then(
      () => [],
      (error: unknown) => String(error).split("\n--- log")[0]!.split("\n").slice(1),
    );
    // A worker that is killed, or leaves by exit(), may be about to connect its doorbell.
    for (const line of problems.filter((text) => !/^(?:socket|temporary file) left: /.test(text))) {
      report.failures.push(line);
      say(`FAILURE at the end of seed ${seed}, ${runtime}: ${line}`);
    }
  }
  return report;
}
