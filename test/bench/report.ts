// Turns figures into text, and into the rows of the JSON file.
import { isProcess } from "./cases.ts";
import { BURN_INTERVAL_MS, BURN_MS, CPU_CONNECTIONS, type CpuRow } from "./cpu-case.ts";
import type { Row } from "./load.ts";
import type { Options } from "./options.ts";
import type { RingRow } from "./ring.ts";
import type { SyscallRow } from "./syscalls.ts";

type Cells = readonly string[];

/** Columns padded to their widest cell: words (the columns in `left`) to the left, figures to the right. */
function table(head: Cells, rows: readonly Cells[], left: readonly number[]): string {
  const widths = head.map((_, column) => {
    return Math.max(...[head, ...rows].map((row) => (row[column] ?? "").length));
  });
  const line = (row: Cells): string => {
    const cells = row.map((cell, column) => {
      const width = widths[column] ?? 0;
      return left.includes(column) ? cell.padEnd(width) : cell.padStart(width);
    });
    return cells.join("  ").trimEnd();
  };
  return [head, widths.map((width) => "-".repeat(width)), ...rows].map(line).join("\n");
}

function whole(value: number): string {
  return Math.round(value).toLocaleString("en-US");
}

function tenths(value: number): string {
  return value.toFixed(1);
}

/** What a run is measured under. */
export type Conditions = Pick<Options, "workers" | "busy">;

export function conditions({ workers, busy }: Conditions): [name: string, value: string][] {
  return [
    ["workers", String(workers)],
    ["busy processes beside", String(busy)],
  ];
}

export function environmentText(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join("\n");
}

export function loadText(rows: readonly Row[]): string {
  const head = [
    ...["case", "target", "conns", "req/s", "of lua", "spread", "p50 µs", "p99 µs", "p99.9 µs"],
    ...["crossings", "worker CPU", "node CPU", "other CPU", "worker MiB", "server MiB"],
  ];
  const cells = rows.map((row) => [
    row.placement === "free" ? row.case : `${row.case}, apart`,
    row.target,
    String(row.connections),
    whole(row.rps),
    row.ratioToLua.toFixed(2),
    `${whole(row.spread * 100)} %`,
    whole(row.p50Us),
    whole(row.p99Us),
    whole(row.p999Us),
    row.crossings > 0 ? row.crossings.toFixed(2) : "",
    tenths(row.workerCpuUs),
    tenths(row.nodeCpuUs),
    tenths(row.othersCpuUs),
    whole(row.workerRssMib),
    row.target === "proxy" || isProcess(row.target) ? whole(row.serverRssMib) : "",
  ]);
  return table(head, cells, [0, 1]);
}

export function cpuText(rows: readonly CpuRow[]): string {
  const head = [
    ...["burning", "threads", "burns", "req/s", "p50 µs", "p99 µs", "p99 / none"],
    ...["p99.9 µs", "max µs"],
  ];
  const cells = rows.map((row) => [
    row.target === "lua" ? "none" : row.target,
    row.placement,
    whole(row.burns),
    whole(row.rps),
    whole(row.p50Us),
    whole(row.p99Us),
    row.p99Ratio.toFixed(2),
    whole(row.p999Us),
    whole(row.maxUs),
  ]);
  const what =
    `cpu: /lua/echo at ${String(CPU_CONNECTIONS)} unhurried connections, beside a handler that ` +
    `burns ${String(BURN_MS)} ms every ${String(BURN_INTERVAL_MS)} ms`;
  return `${what}\n\n${table(head, cells, [0, 1])}`;
}

export function syscallText(rows: readonly SyscallRow[]): string {
  const head = ["target", "counted by", "requests", "req/s", "a request", "of these"];
  const cells = rows.map((row) => {
    const kinds = row.kinds.map(([name, count]) => `${name} ${(count / row.requests).toFixed(2)}`);
    return [
      row.target,
      row.method,
      whole(row.requests),
      whole(row.rps),
      (row.total / row.requests).toFixed(2),
      kinds.filter((kind) => !kind.endsWith(" 0.00")).join(", "),
    ];
  });
  return `syscalls of nginx's own thread, echo, 64 connections\n\n${table(head, cells, [0, 1, 5])}`;
}

export function ringText(rows: readonly RingRow[]): string {
  const cells = rows.map((row) => [row.name, row.us.toFixed(3)]);
  return `without nginx\n\n${table(["figure", "µs a call"], cells, [0])}`;
}

interface JsonRow {
  readonly case: string;
  readonly target: string;
  readonly connections: number;
  readonly workers: number;
  readonly busy: number;
  readonly rps: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly ratio_to_lua: number;
  /** Of targets with TypeScript, in a load case. */
  readonly crossings?: number;
}

function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}

/** In the cpu case all figures are of the Lua location; `target` is who burns, `lua`: nobody. */
export function jsonRows(
  rows: readonly Row[],
  cpuRows: readonly CpuRow[],
  { workers, busy }: Conditions,
): JsonRow[] {
  const load = rows.map((row) => ({
    case: row.placement === "free" ? row.case : `${row.case}_apart`,
    target: row.target,
    connections: row.connections,
    workers,
    busy,
    rps: rounded(row.rps, 1),
    p50_us: rounded(row.p50Us, 1),
    p99_us: rounded(row.p99Us, 1),
    ratio_to_lua: rounded(row.ratioToLua, 3),
    ...(row.crossings > 0 ? { crossings: rounded(row.crossings, 2) } : {}),
  }));
  const cpu = cpuRows.map((row) => {
    const none = cpuRows.find(({ target, placement }) => {
      return target === "lua" && placement === row.placement;
    });
    return {
      case: row.placement === "apart" ? "cpu" : "cpu_free",
      target: row.target,
      connections: CPU_CONNECTIONS,
      workers,
      busy,
      rps: rounded(row.rps, 1),
      p50_us: rounded(row.p50Us, 1),
      p99_us: rounded(row.p99Us, 1),
      ratio_to_lua: rounded(row.rps / (none?.rps ?? NaN), 3),
    };
  });
  return [...load, ...cpu];
}
