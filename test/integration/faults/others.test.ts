/**
 * The fault matrix: whatever one plugin does, in either runtime, the others of its environment
 * answer each of their calls, and the worker stays.
 */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { statsOf, untilState, type Answer } from "../../support/bridge.js";
import { until } from "../../support/deadline.js";
import {
  NEIGHBOUR_FILES,
  NEIGHBOUR_LOCATIONS,
  startLoad,
  type NeighbourKind,
} from "../../support/neighbours.js";
import { withNginx, type Nginx, type NginxOptions } from "../../support/nginx.js";
import { content, type StartOptions } from "../../support/nginx-config.js";

type Runtime = "embedded" | "process";
type Counter = "exited" | "stalled" | "out_of_memory";

interface Fault {
  /** Of faulty.ts; or what is done to the host process. */
  name: string;
  signal?: NodeJS.Signals;
  /** What its own call gets: one of these codes, or this value. */
  answers: string[];
  /** What another call of the faulty module gets that is in flight; none: it stays in flight. */
  ends?: Counter;
  log: RegExp;
  runtimes?: Runtime[];
  start?: StartOptions;
}

const CONNECTIONS = 16;
const processOnly: Runtime[] = ["process"];

const FAULTS: Fault[] = [
  { name: "throw", answers: ["handler_failed"], log: /Error: thrown on purpose\n.*faulty\.ts:/ },
  { name: "reject", answers: ["handler_failed"], log: /Error: rejected on purpose\n.*faulty\.ts:/ },
  { name: "unhandled", answers: ["soon"], log: /unhandled rejection: .*unheard on purpose/ },
  { name: "exit", answers: ["exited"], ends: "exited", log: /ended: .*exit code 7/ },
  {
    name: "uncaught",
    answers: ["soon"],
    ends: "exited",
    log: /uncaught exception.*thrown in a timer on purpose[^]*the environment ended/,
  },
  {
    name: "spin",
    // Which, depends on whether a call that blocks the worker kept its timer from firing.
    answers: ["timeout", "stalled"],
    ends: "stalled",
    log: /the environment ended: runtime stalled[^]*the handler that stalled:\n +at .*faulty\.ts:/,
  },
  {
    name: "fill",
    answers: ["out_of_memory"],
    ends: "out_of_memory",
    log: /the environment ended: out of memory/,
    start: { max_heap_mb: 64 },
  },
  {
    name: "hoard",
    answers: ["out_of_memory"],
    ends: "out_of_memory",
    log: /the environment ended: out of memory: .*max_external_mb, 100/,
    start: { max_external_mb: 100 },
  },
  {
    name: "abort",
    answers: ["exited"],
    ends: "exited",
    log: /ended: .*SIGABRT/,
    runtimes: processOnly,
  },
  {
    name: "segfault",
    answers: ["exited"],
    ends: "exited",
    log: /ended: .*SIGSEGV/,
    runtimes: processOnly,
  },
  {
    name: "a kill -9 of the host",
    signal: "SIGKILL",
    // The latter when it was still queued.
    answers: ["exited", "timeout"],
    ends: "exited",
    log: /ended: .*SIGKILL/,
    runtimes: processOnly,
  },
  {
    name: "a SIGSTOP of the host",
    signal: "SIGSTOP",
    answers: ["timeout", "stalled"],
    ends: "stalled",
    log: /the environment ended: runtime stalled/,
    runtimes: processOnly,
  },
];

/** What the watchdog goes by. */
const SHORT_MS = 300;
/** Idempotent ones: what a host was in the middle of when it was killed, is made again. */
const ENDED_ANYWHERE: NeighbourKind[] = ["module", "late"];

function options(runtime: Runtime, start: StartOptions = {}): NginxOptions {
  return {
    ts: {
      ...{ runtime, plugins: "plugins", timeout_ms: 20_000, sync_timeout_ms: 20_000 },
      ...{ stall_ms: 200, ...start },
    },
    files: NEIGHBOUR_FILES,
    allowLog: [/resty\.ts: /],
    locations: {
      ...NEIGHBOUR_LOCATIONS,
      "/faulty/fault": content(`
        t.reply(ts.call(ts.import("faulty.ts").fault, { timeout_ms = tonumber(ngx.var.arg_ms) }, ngx.var.arg_kind))`),
      "/faulty/held": content(`
        t.reply(ts.call(ts.import("faulty.ts").held, { timeout_ms = tonumber(ngx.var.arg_ms) }))`),
      "/faulty/release": content(`t.reply(ts.import("faulty.ts").release())`),
      "/faulty/in-flight": content(`t.reply(ts.import("faulty.ts").inFlight())`),
      "/faulty/ok": content(`t.reply(ts.import("faulty.ts").ok("well"))`),
    },
  };
}

/** Resolves with what its call gets. */
async function commit(nginx: Nginx, fault: Fault): Promise<Answer<string>> {
  const { name, signal } = fault;
  if (signal === undefined) {
    const ms = name === "spin" ? `&ms=${SHORT_MS}` : "";
    return nginx.json(`/faulty/fault?kind=${name}${ms}`);
  }
  const { process_id: host } = await statsOf(nginx);
  const held = nginx.json<Answer<string>>(`/faulty/held?ms=${SHORT_MS}`);
  process.kill(host ?? assert.fail("there is no host"), signal);
  return held;
}

async function check(nginx: Nginx, fault: Fault): Promise<void> {
  await untilState(nginx, "ready");
  const worker = nginx.workerPid();
  const load = startLoad(nginx.url, CONNECTIONS, fault.signal ? ENDED_ANYWHERE : undefined);
  try {
    const inFlight = nginx.json<Answer>("/faulty/held");
    inFlight.catch(() => undefined);
    await until(
      "the call is in flight",
      async () => (await nginx.json<Answer<number>>("/faulty/in-flight")).value === 1,
    );
    await load.more(100);
    const own = await commit(nginx, fault);
    assert.ok(fault.answers.includes(own.code ?? own.value ?? ""), JSON.stringify(own));
    if (fault.ends === undefined) await nginx.json("/faulty/release");
    assert.deepEqual(
      await inFlight.then(({ code, value }) => code ?? value),
      fault.ends ?? "released",
    );
    await load.more(100);
    assert.deepEqual(await nginx.json("/faulty/ok"), { value: "well" });
  } finally {
    await load.stop();
  }
  assert.deepEqual(load.failures, []);
  assert.equal(nginx.workerPid(), worker);
  const { state, lives, exited, stalled, out_of_memory } = await statsOf(nginx);
  const expected = { state: "ready", lives: 1, exited: 0, stalled: 0, out_of_memory: 0 };
  if (fault.ends !== undefined) {
    expected.lives = 2;
    expected[fault.ends] = 1;
  }
  assert.deepEqual({ state, lives, exited, stalled, out_of_memory }, expected);
  await nginx.waitForLog(fault.log);
}

for (const runtime of ["embedded", "process"] as const) {
  describe(`${runtime}: others answer all of their calls`, () => {
    for (const fault of FAULTS) {
      if (!(fault.runtimes ?? [runtime]).includes(runtime)) continue;
      test(`while a plugin does: ${fault.name}`, () =>
        withNginx(options(runtime, fault.start), (nginx) => check(nginx, fault)));
    }
  });
}
