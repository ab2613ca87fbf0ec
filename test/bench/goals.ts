// The figures that this project has set itself, beside those of a run.
import { isProcess, PLUGIN_CASES } from "./cases.ts";
import type { CpuRow } from "./cpu-case.ts";
import type { Row } from "./load.ts";
import type { Conditions } from "./report.ts";

type Shares = Readonly<Record<string, Readonly<Record<number, number>>>>;

/** Least requests/s of `ts`, as a share of pure Lua's: by case and connections. */
const QUIET: Shares = {
  echo: { 64: 0.8 },
  headers: { 1: 0.75, 16: 0.6, 64: 0.6 },
  filter: { 1: 0.65, 16: 0.45, 64: 0.45 },
  apisix: { 64: 0.95 },
};
const TWO_BUSY: Shares = {
  echo: { 16: 0.6, 64: 0.65 },
  fields: { 16: 0.6, 64: 0.65 },
  headers: { 16: 0.6, 64: 0.55 },
  filter: { 16: 0.45, 64: 0.4 },
};
const TWO_WORKERS: Shares = {
  echo: { 16: 0.7, 64: 0.72 },
  fields: { 16: 0.7, 64: 0.72 },
  headers: { 16: 0.72, 64: 0.72 },
  filter: { 16: 0.6, 64: 0.6 },
};

function sharesOf({ workers, busy }: Conditions): Shares | undefined {
  if (workers === 1) return { 0: QUIET, 2: TWO_BUSY }[busy];
  return workers === 2 && busy === 0 ? TWO_WORKERS : undefined;
}

/** Least requests/s of one target, as a share of another's. */
const QUOTIENTS = [
  { case: "echo", connections: 64, target: "ts", of: "proxy", goal: 1.8 },
  { case: "jwt", connections: 64, target: "ts", of: "njs", goal: 1.5 },
  { case: "body-100k", connections: 16, target: "ts", of: "njs", goal: 0.7 },
] as const;

/** What of this the rows have. */
export function goalsText(
  rows: readonly Row[],
  cpuRows: readonly CpuRow[],
  conditions: Conditions,
): string {
  const lines: string[] = [];
  const note = (what: string, found: string, goal: string): void => {
    lines.push(`${what.padEnd(33)} ${found} (goal: ${goal})`);
  };
  const free = rows.filter(({ placement }) => placement === "free");
  const row = (name: string, target: string, connections: number): Row | undefined => {
    const ofCase = free.filter((one) => one.case === name && one.connections === connections);
    return ofCase.find((one) => one.target === target);
  };
  const least = (what: string, found: number, goal: number): void => {
    note(what, found.toFixed(2), `${goal.toFixed(2)} or more`);
  };

  for (const [name, shares] of Object.entries(sharesOf(conditions) ?? {})) {
    for (const [connections, goal] of Object.entries(shares)) {
      const ts = row(name, "ts", Number(connections));
      if (ts) least(`${name}, ${connections}: ts / lua`, ts.ratioToLua, goal);
    }
  }
  for (const name of ["declared", "kept"]) {
    for (const { target, connections, ratioToLua } of free.filter((one) => one.case === name)) {
      const access = row("access", "ts", connections);
      if (target !== "ts" || access === undefined) continue;
      const what = `${name}, ${String(connections)}: ts / lua, of access`;
      least(what, ratioToLua / access.ratioToLua, 0.95);
    }
  }
  for (const [name, crossings] of PLUGIN_CASES) {
    const ts = free.findLast((one) => one.case === name && one.target === "ts");
    if (ts === undefined) continue;
    const what = `${name}, ${String(ts.connections)}: crossings`;
    note(what, ts.crossings.toFixed(2), crossings.toFixed(2));
  }
  if (conditions.workers > 1 || conditions.busy > 0) return lines.join("\n");

  for (const { case: name, connections, target, of, goal } of QUOTIENTS) {
    const [one, other] = [row(name, target, connections), row(name, of, connections)];
    if (!one || !other) continue;
    least(
      `${name}, ${String(connections)}: ${target} / ${of}`,
      one.ratioToLua / other.ratioToLua,
      goal,
    );
  }
  for (const { case: name, target, connections, ratioToLua } of free) {
    const ts = row("echo", "ts", connections);
    if (name !== "echo" || !isProcess(target) || ts === undefined) continue;
    least(`echo, ${String(connections)}: ${target} / ts`, ratioToLua / ts.ratioToLua, 0.9);
  }
  const [lua1, ts1] = [row("echo", "lua", 1), row("echo", "ts", 1)];
  if (lua1 && ts1) {
    note("echo, 1: p50 ts - lua", `${(ts1.p50Us - lua1.p50Us).toFixed(0)} µs`, "15 or less");
  }
  const [luaApisix, tsApisix] = [row("apisix", "lua", 64), row("apisix", "ts", 64)];
  if (luaApisix && tsApisix) {
    const more = tsApisix.workerCpuUs - luaApisix.workerCpuUs;
    note("apisix, 64: worker CPU ts - lua", `${more.toFixed(1)} µs`, "6.0 or less");
  }
  const burnt = cpuRows.find(({ target, placement }) => target === "ts" && placement === "apart");
  if (burnt) note("cpu: p99 ts / none", burnt.p99Ratio.toFixed(2), "1.20 or less");
  return lines.join("\n");
}
