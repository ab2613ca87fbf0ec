// The cpu case: what a pure-Lua location feels while a handler of the same worker burns CPU.
// wrk asks at an even, low rate: at full speed the few requests that a stall holds up would
// drown among the many that are answered between two stalls.
import { setTimeout as sleep } from "node:timers/promises";

import type { ServedTarget } from "./cases.ts";
import type { Subjects } from "./load.ts";
import type { Site } from "./nginx.ts";
import { place, type Placement, placeWrk } from "./placement.ts";
import { medianQuotient, mediansOf } from "./support.ts";
import { runWrk, type WrkFigures } from "./wrk.ts";

export const BURN_MS = 50;
export const BURN_INTERVAL_MS = 250;
export const CPU_CONNECTIONS = 16;
const PAUSE_MS = 8;

/** Of the Lua location. `target` is who burns meanwhile; with `lua` nobody does. */
export interface CpuRow extends WrkFigures {
  readonly target: ServedTarget;
  readonly placement: Placement;
  readonly burns: number;
  /** The p99 as a share of nobody's in the same repeat, a few seconds apart; the median. */
  readonly p99Ratio: number;
}

type CpuRun = WrkFigures & Pick<CpuRow, "burns">;

/** What the client asks beside wrk: nobody's rows differ from the others in the burning alone. */
function pathBeside(target: ServedTarget): string {
  return target === "lua" ? "/lua/echo?q=beside" : `/${target}/burn?ms=${String(BURN_MS)}`;
}

/** Asks for the path at a steady rate until it is told to stop; how often it did. */
async function askUntil(site: Site, path: string, stopped: () => boolean): Promise<number> {
  let asked = 0;
  let next = performance.now();
  while (!stopped()) {
    const answer = await site.get(path);
    if (answer.status !== 200) {
      throw new Error(`${path} answered ${String(answer.status)}: ${answer.body}`);
    }
    asked += 1;
    next += BURN_INTERVAL_MS;
    await sleep(Math.max(next - performance.now(), 0));
  }
  return asked;
}

async function measureBeside(
  site: Site,
  target: ServedTarget,
  placement: Placement,
  seconds: number,
): Promise<CpuRun> {
  let stopped = false;
  const asking = askUntil(site, pathBeside(target), () => stopped);
  const load = runWrk({
    url: `${site.url}/lua/echo?q=hello`,
    connections: CPU_CONNECTIONS,
    seconds,
    pauseMs: PAUSE_MS,
    prefix: placeWrk(placement),
  }).finally(() => {
    stopped = true;
  });
  const [figures, asked] = await Promise.all([load, asking]);
  return { ...figures, burns: target === "lua" ? 0 : asked };
}

/** Interleaved like the load cases: nobody, ts, njs, proxy, nobody, ts, … */
export async function measureCpu(
  { site, serverPid }: Pick<Subjects, "site" | "serverPid">,
  targets: readonly ServedTarget[],
  placement: Placement,
  repeats: number,
  seconds: number,
): Promise<CpuRow[]> {
  const pids = { workerPids: site.workerPids, serverPids: [serverPid] };
  const runs = new Map<ServedTarget, CpuRun[]>(targets.map((target) => [target, []]));
  if (placement === "apart") place(pids, "apart");
  for (let repeat = 0; repeat < repeats; repeat += 1) {
    for (const [target, ofTarget] of runs) {
      ofTarget.push(await measureBeside(site, target, placement, seconds));
    }
  }
  if (placement === "apart") place(pids, "free");
  const none = (runs.get("lua") ?? []).map((run) => run.p99Us);
  return [...runs].map(([target, ofTarget]) => ({
    target,
    placement,
    ...mediansOf(ofTarget),
    p99Ratio: medianQuotient(
      ofTarget.map((run) => run.p99Us),
      none,
    ),
  }));
}
