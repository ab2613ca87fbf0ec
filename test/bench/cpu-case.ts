// The cpu case: what a pure-Lua location feels while a handler of the same worker burns CPU.
// wrk asks at an even, low rate: at full speed the few requests that a stall holds up would
// drown among the many that are answered between two stalls.
import { setTimeout as sleep } from "node:timers/promises";

import type { ServedTarget } from "./cases.ts";
import type { Subjects } from "./load.ts";
import type { Site } from "./nginx.ts";
import { place, type Placement, placeWrk } from "./placement.ts";
import { median } from "./support.ts";
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
}

/** Calls the target's burning handler at a steady rate until it is told to stop. */
async function burnUntil(
  site: Site,
  target: ServedTarget,
  stopped: () => boolean,
): Promise<number> {
  let burns = 0;
  let next = performance.now();
  while (!stopped()) {
    const answer = await site.get(`/${target}/burn?ms=${String(BURN_MS)}`);
    if (answer.status !== 200) {
      throw new Error(`/${target}/burn answered ${String(answer.status)}: ${answer.body}`);
    }
    burns += 1;
    next += BURN_INTERVAL_MS;
    await sleep(Math.max(next - performance.now(), 0));
  }
  return burns;
}

async function measureBeside(
  site: Site,
  target: ServedTarget,
  placement: Placement,
  seconds: number,
): Promise<CpuRow> {
  let stopped = false;
  const burning = target === "lua" ? Promise.resolve(0) : burnUntil(site, target, () => stopped);
  const load = runWrk({
    url: `${site.url}/lua/echo?q=hello`,
    connections: CPU_CONNECTIONS,
    seconds,
    pauseMs: PAUSE_MS,
    prefix: placeWrk(placement),
  }).finally(() => {
    stopped = true;
  });
  const [figures, burns] = await Promise.all([load, burning]);
  return { ...figures, target, placement, burns };
}

function medianRow(target: ServedTarget, placement: Placement, rows: readonly CpuRow[]): CpuRow {
  const of = (pick: (row: CpuRow) => number): number => median(rows.map(pick));
  return {
    target,
    placement,
    burns: of((row) => row.burns),
    requests: of((row) => row.requests),
    rps: of((row) => row.rps),
    p50Us: of((row) => row.p50Us),
    p99Us: of((row) => row.p99Us),
    p999Us: of((row) => row.p999Us),
    maxUs: of((row) => row.maxUs),
  };
}

/** Interleaved like the load cases: nobody, ts, njs, proxy, nobody, ts, … */
export async function measureCpu(
  { site, serverPid }: Pick<Subjects, "site" | "serverPid">,
  targets: readonly ServedTarget[],
  placement: Placement,
  repeats: number,
  seconds: number,
): Promise<CpuRow[]> {
  const pids = { workerPid: site.workerPid, serverPid };
  const rows = new Map<ServedTarget, CpuRow[]>(targets.map((target) => [target, []]));
  if (placement === "apart") place(pids, "apart");
  for (let repeat = 0; repeat < repeats; repeat += 1) {
    for (const [target, ofTarget] of rows) {
      ofTarget.push(await measureBeside(site, target, placement, seconds));
    }
  }
  if (placement === "apart") place(pids, "free");
  return [...rows].map(([target, ofTarget]) => medianRow(target, placement, ofTarget));
}
