/**
 * The chaos suite: nginx in both runtimes under constant load, while one fault follows the other.
 *
 *     npm run test:chaos -- [--seconds 600] [--seed N] [--runtime embedded|process] [--connections 8]
 *                           [--faults exit,spin] [--verbose]
 *
 * The faults, their victims and all payloads come from the seed; when they meet which call does not.
 * Exit status 1 when a call failed that should not have, a fault was not recovered from, or
 * something grew. The last line: N calls, N faults, N failures; longest wait of a plain location.
 */
import { parseArgs } from "node:util";
import { Random } from "../fuzz/random.js";
import { sleep } from "../support/deadline.js";
import type { Fault, Scene } from "./fault.js";
import { FAULTS } from "./faults.js";
import { Load } from "./load.js";
import { Samples } from "./samples.js";
import { Site, SYNC_TIMEOUT_MS, type Runtime } from "./site.js";
import { now, say, Tally } from "./tally.js";
import { Waits } from "./waits.js";
import { Windows } from "./windows.js";

const SAMPLE_MS = 1000;
/** An environment that ends sooner than that after it was ready is taken for one of a crash loop. */
const STEADY_MS = 1000;

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "600" },
    seed: { type: "string", default: String(Date.now() % 1_000_000) },
    runtime: { type: "string", default: "embedded,process" },
    connections: { type: "string", default: "8" },
    faults: { type: "string" },
    verbose: { type: "boolean", default: false },
  },
});
const seconds = Number(values.seconds);
const seed = Number(values.seed);
if (!Number.isInteger(seconds) || seconds < 1 || !Number.isInteger(seed)) {
  throw new Error("--seconds and --seed are whole numbers");
}
const tally = new Tally();
const end = seconds * 1000;

function choices(site: Site): Fault[] {
  const wanted = values.faults?.split(",");
  const list = FAULTS.filter(
    (fault) =>
      fault.runtimes.includes(site.runtime) &&
      (fault.possible?.(site) ?? true) &&
      (wanted?.includes(fault.name) ?? true),
  );
  return list.flatMap((fault) => Array.from({ length: fault.weight }, () => fault));
}

async function inflict(fault: Fault, scene: Scene): Promise<void> {
  const { site, worker } = scene;
  const title = `${fault.name} (worker ${worker.pid})`;
  tally.fault(fault.name);
  const began = now();
  try {
    await fault.run(scene);
    if (site.nginx.workerPids().includes(worker.pid)) await worker.recovered();
    else if (fault.name !== "worker killed") throw new Error("the worker is gone");
  } catch (error) {
    const what = error instanceof Error ? error.message : String(error);
    tally.fail(site.runtime, `${what}\n${site.logOf(worker.pid)}`, title);
    await site.forget(worker.pid);
    await site.settled();
  }
  if (values.verbose) {
    say(
      `${(began / 1000).toFixed(2)} s, ${site.runtime}: ${title}, ${(now() - began).toFixed(0)} ms`,
    );
  }
}

/** Each call that was answered was begun once, any other once at most; idempotent ones more often. */
function compareBegun(site: Site, load: Load): void {
  const noted = site.begun();
  for (const [id, { answered, repeatable }] of load.made) {
    const times = noted.get(id) ?? 0;
    if ((times > 1 && !repeatable) || (answered && times === 0)) {
      tally.fail(site.runtime, `call ${id} was begun ${times} times`, "the run");
    }
    noted.delete(id);
  }
  for (const id of noted.keys()) tally.fail(site.runtime, `nobody made call ${id}`, "the run");
}

async function runSite(site: Site, number: number): Promise<() => void> {
  const { runtime } = site;
  const random = new Random(seed + number);
  const windows = new Windows();
  const workers = new Samples(`workers, ${runtime}`);
  const hosts = new Samples(`hosts, ${runtime}`);
  const load = new Load({
    ...{ site: runtime, url: site.nginx.url, connections: Number(values.connections) },
    ...{ tally, windows, random: new Random(seed + 100 + number) },
    lastFault: () => site.lastFault,
    log: (worker) => site.logOf(worker),
  });
  const sampler = setInterval(() => {
    const pids = site.nginx.workerPids();
    workers.take(pids);
    if (runtime === "process") hosts.take(site.hosts());
  }, SAMPLE_MS);
  const list = choices(site);
  try {
    while (now() < end && list.length > 0) {
      const fault = random.pick(list);
      const worker = random.pick(site.workers());
      site.lastFault = `${fault.name} in worker ${worker.pid}, ${(now() / 1000).toFixed(2)} s`;
      await inflict(fault, { site, worker, windows, random });
      await sleep(STEADY_MS + random.below(500));
    }
  } finally {
    clearInterval(sampler);
    await load.stop();
    compareBegun(site, load);
    await site.stop().catch((error: unknown) => {
      tally.fail(runtime, String(error).slice(0, 4000), "the run");
    });
  }
  return () => {
    for (const grown of [...workers.report(), ...hosts.report()]) {
      tally.fail(runtime, grown, "the run");
    }
  };
}

say(`seed ${seed}, ${seconds} s`);
const runtimes = values.runtime.split(",") as Runtime[];
const sites: Site[] = [];
// One after the other: what each is given to preload is in our own environment.
for (const runtime of runtimes) sites.push(await Site.start(runtime));
const waits = await Waits.start(sites);
const reports = await Promise.all(sites.map(runSite));
for (const report of reports) report();
const longest = await waits.stop();
say(`\n${[...tally.byFault].map(([name, count]) => `${count} ${name}`).join(", ")}`);
say(`${tally.excused} calls failed as their fault has it`);
say(`${tally.passed} filters were not answered within ${SYNC_TIMEOUT_MS} ms`);
say(
  `${tally.calls} calls, ${tally.faults} faults, ${tally.failures} failures; ` +
    `longest wait of a plain location: ${longest}`,
);
if (tally.failures > 0) process.exitCode = 1;
