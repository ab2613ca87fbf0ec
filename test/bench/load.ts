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
import { childrenOf } from "../support/proc.js";
import { cpuPerRequest, readCpuTimes, readRssMib } from "./cpu-meter.ts";
import { checkCalls, crossingsPerRequest } from "./crossings.ts";
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
  /** nginx's own threads: one a worker. */
  readonly workerCpuUs: number;
  /** The threads that run JavaScript: in the workers, or a process's. */
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
  readonly apart: ReadonlyMap<Target, Site>;
  /** Of the cases that APISIX serves. */
  readonly apisix: Site | undefined;
}

function siteOf({ site, apart, apisix }: Subjects, name: LoadCase, target: Target): Site {
  if (isApisix(name) && apisix !== undefined) return apisix;
  return apart.get(target) ?? site;
}

/** The processes beside the workers: the server, or the workers' hosts. */
function serversOf({ serverPid }: Subjects, target: Target, site: Site): number[] {
  return isProcess(target) ? site.workerPids.flatMap(childrenOf) : [serverPid];
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
  const serverPids = serversOf(subjects, target, site);
  const url = site.url + pathOf(name, target);
  const workerBefore = readCpuTimes(site.workerPids);
  const serverBefore = readCpuTimes(serverPids);
  const headers = requestHeadersOf(name);
  const figures = await runWrk({
    url,
    connections,
    pipeline,
    seconds,
    headers,
    prefix: placeWrk(placement),
  });
  const worker = cpuPerRequest(workerBefore, readCpuTimes(site.workerPids), figures.requests);
  const server = cpuPerRequest(serverBefore, readCpuTimes(serverPids), figures.requests);
  return {
    rps: figures.rps,
    p50Us: figures.p50Us,
    p99Us: figures.p99Us,
    p999Us: figures.p999Us,
    workerCpuUs: worker.mainUs,
    nodeCpuUs: target === "proxy" || isProcess(target) ? server.mainUs : worker.nodeUs,
    othersCpuUs: worker.othersUs + server.othersUs,
    workerRssMib: readRssMib(site.workerPids),
    serverRssMib: readRssMib(serverPids),
  };
}

function spreadOf(runs: readonly Run[]): number {
  const all = runs.map((run) => run.rps);
  return (Math.max(...all) - Math.min(...all)) / median(all);
}

function crossingsOf(site: Site, { name, connections }: Group): Promise<number> {
  const atOnce = site.workerPids.length > 1 ? 1 : connections;
  return crossingsPerRequest(site, pathOf(name, "ts"), requestHeadersOf(name), atOnce);
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
    await checkCalls(site);
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
  const { site, serverPid, apart, apisix } = subjects;
  const all = [
    ...[site, apisix].flatMap((one) => (one === undefined ? [] : [[one, [serverPid]] as const])),
    ...[...apart.values()].map((one) => [one, one.workerPids.flatMap(childrenOf)] as const),
  ].map(([{ workerPids }, serverPids]) => ({ workerPids, serverPids }));
  for (const pids of all) place(pids, "apart");
  for (const name of loadCasesOf(options)) {
    progress(`${name}: 1 connection, threads apart`);
    const group: Group = { name, connections: 1, placement: "apart" };
    rows.push(...(await measureGroup(subjects, group, options, plan.loadSeconds)));
  }
  for (const pids of all) place(pids, "free");
  return rows;
}
