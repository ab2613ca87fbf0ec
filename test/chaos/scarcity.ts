/** Faults of what is around: a full folder, no descriptors, no memory for a channel. */
import { execFileSync } from "node:child_process";
import { until, sleep } from "../support/deadline.js";
import { descriptorsOf, inspect } from "../support/proc.js";
import type { Random } from "../fuzz/random.js";
import { type COUNTERS } from "./scarce.js";
import { BOTH, duringEnd, ENDS, endEnvironment, expect, type Fault, type Scene } from "./fault.js";

/** While no environment can be started. */
const REFUSED = ["unavailable", "refused", ...ENDS];

/** The lowest number that no descriptor has: with it as the limit none can be opened. */
function lowestFree(pid: number): number {
  const open = descriptorsOf(pid);
  let fd = 0;
  while (open.has(fd)) fd++;
  return fd;
}

function limitDescriptors(pid: number, soft: number | string): void {
  execFileSync("prlimit", ["--pid", String(pid), `--nofile=${soft}:`]);
}

async function withoutDescriptors(scene: Scene, spare: number): Promise<void> {
  const { worker, windows, random } = scene;
  // What is asked meanwhile goes over connections that there are.
  await worker.prepare(2);
  const { soft } = inspect(worker.pid).openFiles;
  const close = windows.open({ codes: REFUSED, worker: worker.pid });
  limitDescriptors(worker.pid, lowestFree(worker.pid) + spare);
  try {
    await endEnvironment(worker, REFUSED);
    await sleep(random.below(500));
  } finally {
    limitDescriptors(worker.pid, soft);
  }
  await worker.recovered();
  close();
}

function memoryFails(what: (typeof COUNTERS)[number]): Fault {
  return {
    name: `no memory (${what})`,
    weight: 1,
    runtimes: BOTH,
    async run({ site, worker, windows, random }) {
      const close = windows.open({ codes: REFUSED, worker: worker.pid });
      site.scarce.fail(what, 1 + random.below(3));
      await endEnvironment(worker, REFUSED);
      await until("it has failed so often", () => site.scarce.left(what) <= 0, 20_000);
      await worker.recovered();
      close();
    },
  };
}

const spare = (random: Random): number => (random.once(3) ? 0 : 1 + random.below(40));

export const SCARCITY: Fault[] = [
  {
    name: "full folder",
    weight: 2,
    runtimes: BOTH,
    possible: (site) => site.room !== undefined,
    run: (scene) =>
      duringEnd(scene, async () => {
        const { site, worker, random } = scene;
        site.room!.fill();
        try {
          if (random.once(2)) {
            expect("its call", await worker.ask("/fault?kind=exit&ms=30000"), "exited");
          }
          await sleep(500 + random.below(500));
          await worker.recovered();
        } finally {
          site.room!.empty();
        }
      }),
  },
  {
    name: "no descriptors",
    weight: 2,
    runtimes: BOTH,
    run: (scene) => withoutDescriptors(scene, spare(scene.random)),
  },
  memoryFails("memfd"),
  memoryFails("map"),
  memoryFails("thread"),
];
