// The load cases: every target answers the same requests, in interleaved runs.
import {
  checkAnswer,
  isApisix,
  isProcess,
  type LoadCase,
  pathOf,
  requestHeadersOf,
  type Target,
  targetsOf,
} from "./cases.ts";
import { cpuPerRequest, readCpuTimes, readRssMib } from "./cpu-meter.ts";
import { crossingsPerRequest } from "./crossings.ts";
import type { Site } from "./nginx.ts";
import type { Options } from "./options.ts";
import { place, type Placement, placeWrk } from "./placement.ts";
import { connectionsOf, loadCasesOf, type Plan } from "./plan.ts";
import { median, medianQuotient, mediansOf } from "./support.ts";
import { runWrk } from "./wrk.ts";

/** One run of wrk, or the medians of several. CPU is for each request, in microseconds. */
export interface Run {
  readonly rps: number;
  readonly p50Us: number;
  readonly p99Us: number;
  readonly p999Us: number;
  /** nginx's own thread. */
  readonly workerCpuUs: number;
  /** The thread that runs JavaScript: in the worker, or the Node server's. */
  readonly nodeCpuUs: number;
  /** All other threads: V8's and libuv's helpers. */
  readonly othersCpuUs: number;
  readonly workerRssMib: number;
  readonly serverRssMib: number;
}

export interface Row extends Run {
  readonly case: string;
  readonly target: Target;
  readonly connections: number;
  readonly placement: Placement;
  /** Requests/s as a share of pure Lua's in the same repeat, a few seconds apart; the median. */
  readonly ratioToLua: number;
  /** Highest less lowest requests/s of the repeats, as a share of their median. */
  readonly spread: number;
  /** Messages from Lua to TypeScript for each request; 0 where there is no TypeScript. */
  readonly crossings: number;
}

export interface Subjects {
  readonly site: Site;
  readonly serverPid: number;
  /** Of the targets that have an nginx of their own. */
  readonly apart: ReadonlyMap<Target, { readonly site: Site; readonly hostPid: number }>;
  /** Of the cases that APISIX serves. */
  readonly apisix: Site | undefined;
}

function siteOf({ site, apart, apisix }: Subjects, name: LoadCase, target: Target): Site {
  if (isApisix(name) && apisix !== undefined) return apisix;
  return apart.get(target)?.site ?? site;
}

export type Progress = (text: string) => void;

interface Group {
  readonly name: LoadCase;
  readonly connections: number;
  readonly placement: Placement;
}

async function measure(
  subjects: Subjects,
  { name, connections, placement }: Group,
  target: Target,
  pipeline: number,
  seconds: number,
): Promise<Run> {
  const site = siteOf(subjects, name, target);
  // The process beside the worker: a server's, or the host's.
  const serverPid = subjects.apart.get(target)?.hostPid ?? subjects.serverPid;
  const url = site.url + pathOf(name, target);
  const workerBefore = readCpuTimes(site.workerPid);
  const serverBefore = readCpuTimes(serverPid);
  const headers = requestHeadersOf(name);
  const figures = await runWrk({
    url,
    connections,
    pipeline,
    seconds,
    headers,
    prefix: placeWrk(placement),
  });
  const worker = cpuPerRequest(workerBefore, readCpuTimes(site.workerPid), figures.requests);
  const server = cpuPerRequest(serverBefore, readCpuTimes(serverPid), figures.requests);
  return {
    rps: figures.rps,
    p50Us: figures.p50Us,
    p99Us: figures.p99Us,
    p999Us: figures.p999Us,
    workerCpuUs: worker.mainUs,
    nodeCpuUs: target === "proxy" || isProcess(target) ? server.mainUs : worker.nodeUs,
    othersCpuUs: worker.othersUs + server.othersUs,
    workerRssMib: readRssMib(site.workerPid),
    serverRssMib: readRssMib(serverPid),
  };
}

function spreadOf(runs: readonly Run[]): number {
  const all = runs.map((run) => run.rps);
  return (Math.max(...all) - Math.min(...all)) / median(all);
}

function crossingsOf(site: Site, { name, connections }: Group): Promise<number> {
  return crossingsPerRequest(site, pathOf(name, "ts"), requestHeadersOf(name), connections);
}

function hasCrossings(target: Target): boolean {
  return target === "ts" || isProcess(target);
}

/** The repeats of one case at one number of connections: lua, ts, njs, proxy, lua, ts, … */
async function measureGroup(
  subjects: Subjects,
  group: Group,
  options: Options,
  seconds: number,
): Promise<Row[]> {
  const targets = targetsOf(group.name, options.targets);
  const runs = new Map<Target, Run[]>(targets.map((target) => [target, []]));
  for (let repeat = 0; repeat < options.repeats; repeat += 1) {
    for (const [target, ofTarget] of runs) {
      ofTarget.push(await measure(subjects, group, target, options.pipeline, seconds));
    }
  }
  const crossings = new Map<Target, number>();
  for (const target of targets.filter(hasCrossings)) {
    const site = siteOf(subjects, group.name, target);
    crossings.set(target, await crossingsOf(site, group));
  }
  const lua = (runs.get("lua") ?? []).map((run) => run.rps);
  return [...runs].map(([target, ofTarget]) => {
    const run = mediansOf(ofTarget);
    return {
      case: group.name,
      target,
      connections: group.connections,
      placement: group.placement,
      ...run,
      ratioToLua: medianQuotient(
        ofTarget.map(({ rps }) => rps),
        lua,
      ),
      spread: spreadOf(ofTarget),
      crossings: crossings.get(target) ?? 0,
    };
  });
}

/** Checks every location, warms it up, and measures it, as the kernel places the threads. */
export async function measureLoad(
  subjects: Subjects,
  options: Options,
  plan: Plan,
  progress: Progress,
): Promise<Row[]> {
  const rows: Row[] = [];
  for (const name of loadCasesOf(options)) {
    progress(`${name}: warming up`);
    const all = connectionsOf(name, options);
    for (const target of targetsOf(name, options.targets)) {
      await checkAnswer(siteOf(subjects, name, target), name, target);
      const group: Group = { name, connections: Math.max(...all), placement: "free" };
      await measure(subjects, group, target, options.pipeline, plan.warmUpSeconds);
    }
    for (const connections of all) {
      progress(`${name}: ${String(connections)} connections`);
      const group: Group = { name, connections, placement: "free" };
      rows.push(...(await measureGroup(subjects, group, options, plan.loadSeconds)));
    }
  }
  return rows;
}

/** One connection again, placed apart: here pure Lua needs no other core, so the rest is all added. */
export async function measureLoadApart(
  subjects: Subjects,
  options: Options,
  plan: Plan,
  progress: Progress,
): Promise<Row[]> {
  const rows: Row[] = [];
  const all = [
    { workerPid: subjects.site.workerPid, serverPid: subjects.serverPid },
    ...(subjects.apisix === undefined
      ? []
      : [{ workerPid: subjects.apisix.workerPid, serverPid: subjects.serverPid }]),
    ...[...subjects.apart.values()].map(({ site, hostPid }) => ({
      workerPid: site.workerPid,
      serverPid: hostPid,
    })),
  ];
  for (const pids of all) place(pids, "apart");
  for (const name of loadCasesOf(options)) {
    progress(`${name}: 1 connection, threads apart`);
    const group: Group = { name, connections: 1, placement: "apart" };
    rows.push(...(await measureGroup(subjects, group, options, plan.loadSeconds)));
  }
  for (const pids of all) place(pids, "free");
  return rows;
}
