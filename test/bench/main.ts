// The benchmark: pure Lua, this bridge, njs, and a Node HTTP server behind proxy_pass, side by side
// in one nginx with one worker. How to run and read it: docs/benchmarks.md.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { startApisix } from "./apisix.ts";
import {
  checkAnswer,
  isApisix,
  isProcess,
  type ProcessTarget,
  type ServedTarget,
  type Target,
  targetsOf,
} from "./cases.ts";
import { readRssMib } from "./cpu-meter.ts";
import { type CpuRow, measureCpu } from "./cpu-case.ts";
import { startBusy } from "./busy.ts";
import { describeBridge } from "./crossings.ts";
import { Ends } from "./ends.ts";
import { bridgeIsBuilt, describeEnvironment } from "./environment.ts";
import { measureLoad, measureLoadApart, type Progress, type Subjects } from "./load.ts";
import { goalsText } from "./goals.ts";
import { serving } from "./locations.ts";
import { type Site, startNginx } from "./nginx.ts";
import { startNodeServer } from "./node-server.ts";
import { type Options, parseOptions, USAGE, UsageError } from "./options.ts";
import { canPlaceApart, type Placement } from "./placement.ts";
import { cpuRepeatsOf, planOf } from "./plan.ts";
import * as report from "./report.ts";
import { nodes } from "../../scripts/lib/nodes.mjs";
import { measureRings } from "./ring.ts";
import { countStretched, countSyscalls, STRETCHED_SPIN_US, syscallMethods } from "./syscalls.ts";

const say = (text: string): void => void process.stdout.write(`${text}\n`);
const progress: Progress = (text) => void process.stderr.write(`… ${text}\n`);

/** What a run measures, and what it starts other nginxes with. */
interface Setting extends Subjects {
  readonly dir: string;
  readonly serverSocket: string;
  readonly ends: Ends;
}

/** Runs `use` with a second nginx, of other options. */
async function withSite<T>(
  { dir, serverSocket, ends }: Setting,
  options: Parameters<typeof serving>[0],
  use: (site: Site) => Promise<T> | T,
): Promise<T> {
  const site = await startNginx(join(dir, "second"), {
    ...{ serverSocket, workers: 1 },
    ...serving(options),
  });
  ends.add(() => site.stop()); // for an interrupt; stopping twice does no harm
  try {
    return await use(site);
  } finally {
    await site.stop();
  }
}

async function measureCpuCase(options: Options, subjects: Subjects): Promise<CpuRow[]> {
  if (!options.cases.includes("cpu")) return [];
  const placements: Placement[] = canPlaceApart() ? ["apart"] : [];
  // A quick run has no time for both; one core leaves no choice.
  if (!options.quick || placements.length === 0) placements.push("free");
  const rows: CpuRow[] = [];
  const seconds = planOf(options).cpuSeconds;
  for (const placement of placements) {
    progress(`cpu, threads ${placement}`);
    const repeats = cpuRepeatsOf(options);
    const targets = targetsOf("cpu", servedTargets(options));
    rows.push(...(await measureCpu(subjects, targets, placement, repeats, seconds)));
  }
  return rows;
}

async function noteSyscalls(options: Options, setting: Setting): Promise<void> {
  const { methods, missing } = syscallMethods();
  for (const text of missing) say(`note: ${text}`);
  if (methods.length === 0) return;
  progress("counting syscalls");
  const { site, dir } = setting;
  const rows = await countSyscalls(site, servedTargets(options), methods, dir);
  if (options.targets.includes("ts") && methods.includes("strace")) {
    const stretched = { targets: ["ts"] as const, spinUs: STRETCHED_SPIN_US };
    rows.push(await withSite(setting, stretched, (second) => countStretched(second, dir)));
  }
  say(`${report.syscallText(rows)}\n`);
}

async function noteMemory(options: Options, setting: Setting): Promise<void> {
  const targets = servedTargets(options).filter((target) => target !== "ts");
  const plain = await withSite(setting, { targets }, (site) => readRssMib(site.workerPids));
  const worker = readRssMib(setting.site.workerPids);
  say(
    `memory: worker ${worker.toFixed(0)} MiB at the end, ${plain.toFixed(0)} MiB in a fresh one ` +
      `without the bridge; Node server ${readRssMib([setting.serverPid]).toFixed(0)} MiB`,
  );
}

async function measureAll(options: Options, setting: Setting): Promise<void> {
  const plan = planOf(options);
  const rows = await measureLoad(setting, options, plan, progress);
  if (!options.quick && options.workers === 1 && canPlaceApart()) {
    rows.push(...(await measureLoadApart(setting, options, plan, progress)));
  }
  const cpuRows = await measureCpuCase(options, setting);
  if (options.jsonFile !== undefined) {
    const json = JSON.stringify(report.jsonRows(rows, cpuRows, options), null, 2);
    writeFileSync(options.jsonFile, `${json}\n`);
  }
  if (rows.length > 0) say(`${report.loadText(rows)}\n(CPU in µs a request)\n`);
  if (cpuRows.length > 0) say(`${report.cpuText(cpuRows)}\n`);
  const goals = goalsText(rows, cpuRows, options);
  if (goals !== "") say(`${goals}\n`);
  // What follows is about echo in one worker.
  if (options.quick || options.workers > 1 || !options.cases.includes("echo")) return;
  await noteSyscalls(options, setting);
  await noteMemory(options, setting);
  if (!options.targets.includes("ts")) return;
  progress("without nginx");
  say(`\n${report.ringText(await measureRings())}`);
}

function servedTargets({ targets }: Options): ServedTarget[] {
  return targets.filter((target): target is ServedTarget => !isProcess(target));
}

function nodeOf(target: ProcessTarget): string | undefined {
  return nodes().get(Number(target.slice("process".length)));
}

/** Leaves out the targets whose Node is not there, and says so. */
function withoutMissing(options: Options): Options {
  const missing = options.targets.filter((one) => isProcess(one) && nodeOf(one) === undefined);
  for (const target of missing) {
    say(
      `note: without ${target}: its Node is not in .deps/nodes (node scripts/setup.mjs --for bench)\n`,
    );
  }
  return { ...options, targets: options.targets.filter((one) => !missing.includes(one)) };
}

/** An nginx for each process target, whose host is ready. */
async function startProcesses(
  options: Options,
  serverSocket: string,
  dir: string,
  ends: Ends,
): Promise<Setting["apart"]> {
  const { workers } = options;
  const apart = new Map<Target, Site>();
  for (const target of options.targets.filter((one): one is ProcessTarget => isProcess(one))) {
    const node = nodeOf(target) ?? "";
    const site = await startNginx(join(dir, target), {
      ...{ serverSocket, workers },
      ...serving({ targets: ["ts"], node }),
    });
    ends.add(() => site.stop());
    await checkAnswer(site, "echo", target);
    say(`${target}: ${await describeBridge(site)}`);
    apart.set(target, site);
  }
  return apart;
}

async function runBench(options: Options, ends: Ends): Promise<void> {
  if (options.targets.includes("ts") && !bridgeIsBuilt()) {
    throw new UsageError(
      "the bridge is not built: run `npm run build`, or leave it out with --targets lua,njs,proxy",
    );
  }
  const dir = mkdtempSync(join(tmpdir(), "resty-ts-bench-"));
  ends.add(() => {
    rmSync(dir, { recursive: true, force: true });
  });
  const busy = startBusy(options.busy);
  ends.add(() => busy.stop());
  const server = await startNodeServer(join(dir, "server"));
  ends.add(() => server.stop());
  const serverSocket = server.socketPath;
  const targets = servedTargets(options);
  const { workers } = options;
  const site = await startNginx(join(dir, "nginx"), {
    ...{ serverSocket, workers },
    ...serving({ targets }),
  });
  ends.add(() => site.stop());
  const apart = await startProcesses(options, serverSocket, dir, ends);
  try {
    if (options.targets.includes("ts")) {
      // The first call waits for Node's start.
      await checkAnswer(site, "echo", "ts");
      say(`bridge: ${await describeBridge(site)}\n`);
    }
    const apisix = options.cases.some(isApisix) ? await startApisix() : undefined;
    if (apisix !== undefined) ends.add(() => apisix.stop());
    const subjects: Subjects = { site, serverPid: server.pid, apart, apisix };
    const setting: Setting = { ...subjects, dir, serverSocket, ends };
    await (options.mode === "strace" ? noteSyscalls : measureAll)(options, setting);
    busy.check();
  } catch (error) {
    process.stderr.write(`nginx's error log:\n${site.errorLog().slice(-4000)}\n`);
    throw error;
  }
}

async function main(): Promise<void> {
  const given = parseOptions(process.argv.slice(2));
  if (given.mode === "help") {
    say(USAGE);
    return;
  }
  const conditions = given.mode === "plots" ? [] : report.conditions(given);
  say(`${report.environmentText([...describeEnvironment(), ...conditions])}\n`);
  if (given.mode === "probe") return;
  const options = withoutMissing(given);
  const ends = new Ends();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.once(signal, () => void ends.run().finally(() => process.exit(130)));
  }
  try {
    if (options.mode === "plots") {
      const { drawPlots } = await import("./plots/main.ts");
      await drawPlots(options, ends);
    } else {
      await runBench(options, ends);
    }
  } finally {
    await ends.run();
  }
}

main().catch((error: unknown) => {
  const shown = error instanceof UsageError ? error.message : error;
  console.error(shown);
  process.exitCode = error instanceof UsageError ? 2 : 1;
});
