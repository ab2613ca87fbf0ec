/** What a worker has in use, and what of it may not grow. */
import type { Nginx } from "../support/nginx.js";
import { descriptorsOf, rssOf, threadsOf } from "../support/proc.js";

/** A module that is never reloaded: looks at its environment after a collection. */
export const FIGURES_MODULE = `
import v8 from "node:v8";
import vm from "node:vm";
v8.setFlagsFromString("--expose-gc");
const gc = vm.runInNewContext("gc") as () => void;
export async function figures(): Promise<unknown> {
  for (let i = 0; i < 3; i++) {
    await new Promise(setImmediate);
    gc();
  }
  const all: [string, WeakRef<object>][] = (globalThis as any).soakAlive ?? [];
  const alive = all.filter(([, marker]) => marker.deref() !== undefined);
  (globalThis as any).soakAlive = alive;
  const count = (subject: string) => alive.filter(([name]) => name === subject).length;
  const { used_heap_size, external_memory } = v8.getHeapStatistics();
  return { pid: process.pid, heapBytes: used_heap_size, externalBytes: external_memory,
           modulesAlive: count("module"), pluginsAlive: count("plugin") };
}
`;

/** A location that answers with the worker's figures. */
export const FIGURES_LOCATION = `content_by_lua_block {
  local ts, cjson = require "resty.ts", require "cjson"
  local figures, err = ts.import("figures.ts").figures()
  if not figures then ngx.status = 500 return ngx.print(err) end
  figures.chains = ts.import("resty-ts:http").kept().chains
  jit.flush() -- its traces come and go
  collectgarbage() collectgarbage()
  figures.luaBytes = math.floor(collectgarbage("count") * 1024)
  ngx.print(cjson.encode(figures))
}`;

export interface Figures {
  heapBytes: number;
  externalBytes: number;
  luaBytes: number;
  /** Versions of the module and the plugin that are still in memory. */
  modulesAlive: number;
  pluginsAlive: number;
  chains: number;
  workerRssBytes: number;
  /** Of Node's process: the worker's where it is embedded. */
  rssBytes: number;
  descriptors: number;
  threads: number;
}

export async function figuresOf(nginx: Nginx): Promise<Figures> {
  const { pid, ...own } = await nginx.json<Figures & { pid: number }>("/_figures");
  return {
    ...own,
    workerRssBytes: rssOf(nginx.workerPid()),
    rssBytes: rssOf(pid),
    descriptors: descriptorsOf(pid).size,
    threads: threadsOf(pid).length,
  };
}

const MiB = 1048576;
const mib = (bytes: number): string => `${(bytes / MiB).toFixed(1)} MiB`;

export function describeFigures(f: Figures): string {
  return (
    `heap ${mib(f.heapBytes)}, external ${mib(f.externalBytes)}, Lua ${mib(f.luaBytes)}, ` +
    `RSS ${mib(f.rssBytes)}${f.rssBytes === f.workerRssBytes ? "" : ` (worker ${mib(f.workerRssBytes)})`}, ` +
    `${f.descriptors} descriptors, ${f.threads} threads, ${f.chains} chains, ` +
    `versions in memory: ${f.modulesAlive} of the module, ${f.pluginsAlive} of the plugin`
  );
}
