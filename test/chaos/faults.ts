/** The faults: what each does to a worker of a site, and what must follow. */
import { execFileSync } from "node:child_process";
import { sleep, until } from "../support/deadline.js";
import { isAlive } from "../support/proc.js";
import {
  BOTH,
  duringEnd,
  EFFECT_MS,
  endEnvironment,
  ENDS,
  expect,
  hostOf,
  PROCESS,
  withHeld,
  type Fault,
} from "./fault.js";
import { FLOODS } from "./floods.js";
import { SCARCITY } from "./scarcity.js";
import { buildHostile } from "./tools.js";
import { monotonicMs } from "./waits.js";

/** A handler's own doing. `own`: what its call gets; `ends`: what others of its module get. */
function byHandler(name: string, own: string[], ends?: string, runtimes = BOTH): Fault {
  const ms = name === "spin" || name === "block" ? 300 : 30_000;
  return {
    name,
    weight: 3,
    runtimes,
    run: (scene) =>
      duringEnd(scene, async () => {
        const { worker } = scene;
        await withHeld(worker, [ends ?? "released"], async () => {
          expect("its call", await worker.ask(`/fault?kind=${name}&ms=${ms}`), ...own);
          if (ends === undefined) await worker.ask("/release");
        });
      }),
  };
}

/** The same by an HTTP plugin, whose policy answers. */
function byPlugin(name: string, status: number[], runtimes = BOTH): Fault {
  return {
    name: `${name} in a plugin`,
    weight: 1,
    runtimes,
    run: (scene) =>
      duringEnd(scene, async () => {
        const answer = await scene.worker.ask("/wicked", { "x-fault": name });
        if (!status.includes(answer.status)) throw new Error(`status ${answer.status}`);
      }),
  };
}

/** By the policies of a plugin whose environment ends in its handler, or whose time is over. */
const REFUSALS = [500, 503, 504];

/** See hostile.c. */
const CORRUPTIONS = ["kind", "length", "stranger", "ahead", "short", "head", "begun"];
let hostile: string | undefined;

function corrupt(what: string): Fault {
  return {
    name: `corrupt ${what}`,
    weight: 1,
    runtimes: PROCESS,
    possible: () => process.getuid?.() === 0,
    async run({ worker, windows }) {
      // The host is stopped in the middle of anything, and what it had done is not believed.
      const close = windows.open({ codes: ["refused", ...ENDS], worker: worker.pid });
      const host = await hostOf(worker);
      hostile ??= buildHostile();
      process.kill(host, "SIGSTOP");
      try {
        execFileSync(hostile, [String(host), what]);
      } finally {
        process.kill(host, "SIGCONT");
      }
      await worker.recovered();
      close();
    },
  };
}

export const FAULTS: Fault[] = [
  byHandler("throw", ["handler_failed"]),
  byHandler("reject", ["handler_failed"]),
  byHandler("unhandled", ["soon"]),
  byHandler("exit", ["exited"], "exited"),
  byHandler("uncaught", ["soon"], "exited"),
  byHandler("spin", ["timeout", "stalled"], "stalled"),
  byHandler("block", ["timeout", "stalled"], "stalled"),
  byHandler("fill", ["out_of_memory"], "out_of_memory"),
  byHandler("hoard", ["out_of_memory"], "out_of_memory"),
  // In a process of its own signals are Node's.
  byHandler("listen", ["soon"], undefined, ["embedded"]),
  byHandler("abort", ["exited"], "exited", PROCESS),
  byHandler("segfault", ["exited"], "exited", PROCESS),
  byPlugin("throw", [500]),
  byPlugin("exit", REFUSALS),
  byPlugin("uncaught", [200]),
  byPlugin("spin", REFUSALS),
  byPlugin("fill", REFUSALS),
  byPlugin("abort", REFUSALS, PROCESS),
  {
    name: "host killed",
    weight: 3,
    runtimes: PROCESS,
    run: (scene) =>
      duringEnd(
        scene,
        async () => {
          const host = await hostOf(scene.worker);
          await withHeld(scene.worker, ["exited"], async () => {
            process.kill(host, "SIGKILL");
            await until("the host is reaped", () => !isAlive(host));
          });
        },
        true,
      ),
  },
  {
    name: "spin unheard",
    weight: 2,
    runtimes: BOTH,
    async run({ worker, windows }) {
      const close = windows.open({ codes: ["timeout", "refused", ...ENDS], worker: worker.pid });
      const { lives } = await worker.stats();
      await worker.ask("/unheard?kind=spin");
      const another = async (): Promise<boolean> => (await worker.stats()).lives > lives;
      await until("there is another life", another, EFFECT_MS);
      await worker.recovered();
      close();
    },
  },
  {
    name: "short handlers",
    weight: 2,
    runtimes: BOTH,
    async run({ worker }) {
      const some = async (): Promise<void> => {
        for (let i = 0; i < 20; i++) {
          expect("a short one", await worker.ask("/fault?kind=short&ms=30000"), "short");
        }
      };
      await Promise.all(Array.from({ length: 64 }, some));
      // So many connections would count as growth.
      await worker.close();
    },
  },
  {
    name: "worker paused",
    weight: 2,
    runtimes: BOTH,
    async run({ site, worker, random }) {
      const { lives } = await worker.stats();
      const from = monotonicMs();
      process.kill(worker.pid, "SIGSTOP");
      await sleep(random.below(3000));
      process.kill(worker.pid, "SIGCONT");
      site.paused.push({ worker: worker.pid, from, to: monotonicMs() });
      expect(
        "its environment",
        { status: 200, value: (await worker.stats()).lives },
        String(lives),
      );
    },
  },
  {
    name: "host stopped",
    weight: 2,
    runtimes: PROCESS,
    run: (scene) =>
      duringEnd(
        scene,
        async () => {
          const { worker } = scene;
          const host = await hostOf(worker);
          // Its deadline is what the watchdog goes by, also in a worker that blocks for a filter.
          const stop = async (): Promise<void> => {
            process.kill(host, "SIGSTOP");
            await until("the host is reaped", () => !isAlive(host), EFFECT_MS);
          };
          await withHeld(worker, ["timeout", "stalled"], stop, 1500);
        },
        true,
      ),
  },
  {
    name: "host stopped for a moment",
    weight: 2,
    runtimes: PROCESS,
    async run({ worker, random }) {
      const host = await hostOf(worker);
      process.kill(host, "SIGSTOP");
      await sleep(random.below(150));
      process.kill(host, "SIGCONT");
    },
  },
  {
    name: "worker killed",
    weight: 1,
    runtimes: BOTH,
    async run({ site, worker, windows }) {
      const { process_id: host } = await worker.stats();
      const close = windows.open({ codes: ["cut"], worker: worker.pid });
      process.kill(worker.pid, "SIGKILL");
      await until("the worker is gone", () => !isAlive(worker.pid));
      await site.forget(worker.pid);
      if (host !== undefined) await until("its host is gone", () => !isAlive(host));
      await site.settled();
      close();
    },
  },
  {
    name: "crash loop",
    weight: 2,
    runtimes: BOTH,
    async run({ worker, windows }) {
      const close = windows.open({
        codes: ["unavailable", "refused", ...ENDS],
        worker: worker.pid,
      });
      await until(
        "starts are put off",
        async () => {
          await endEnvironment(worker, ["unavailable", ...ENDS]);
          return (await worker.stats()).state === "backing_off";
        },
        20_000,
      );
      await worker.recovered();
      close();
    },
  },
  ...CORRUPTIONS.map(corrupt),
  ...FLOODS,
  ...SCARCITY,
];
