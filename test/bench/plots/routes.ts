// What more configurations cost a request, and a worker's memory.
import { readRssMib } from "../cpu-meter.ts";
import { call, location, startNode } from "../locations.ts";
import type { Site } from "../nginx.ts";
import type { Figure, Line } from "./figure.ts";
import { CPU, cpuOf, sample, type Setting, type Subject, sweep } from "./sweep.ts";

const COUNTS = [1, 10, 100, 1000, 10_000];
const USE_SECONDS = 1;

const growth = (name: string, argument = ""): string => call("bench_growth", name, argument);

/** The worker's start and the access phase, by the way in which the plugin gets its configuration. */
const WAYS = {
  "http.route": { init: startNode() + growth("make_ts_routes", "%"), access: growth("ts_route") },
  lua: { init: growth("make_lua_routes", "%"), access: growth("lua_route") },
  inline: { init: startNode() + growth("make_ts_inline", "%"), access: growth("ts_inline") },
};

/** Requests take the routes in turns: until each was used. */
async function useAll(subject: Subject, count: number): Promise<void> {
  for (let used = 0; used < count;) used += (await sample(subject, USE_SECONDS)).requests;
}

/** From the first configuration to the last. */
function kibEach({ points }: Line): string {
  const [[few, least] = [NaN, NaN], [many, most] = [NaN, NaN]] = [points[0], points.at(-1)];
  return (((most - least) * 1024) / (many - few)).toFixed(1);
}

export async function routes(setting: Setting): Promise<Figure[]> {
  const sites = new Map<string, Site>();
  for (const [name, { init, access }] of Object.entries(WAYS)) {
    for (const count of COUNTS) {
      const locations =
        `set $resty_ts_route ""; ` +
        location("/route", {
          access,
          content: `ngx.print(ngx.re.match(ngx.var.http_x_tenant, "[a-z]+")[0])`,
        });
      const site = await setting.start({
        workers: 1,
        init: init.replace("%", String(count)),
        locations,
      });
      sites.set(`${name} ${count}`, site);
    }
  }
  const siteOf = (name: string, count: number): Site => {
    const site = sites.get(`${name} ${count}`);
    if (site === undefined) throw new Error(`no nginx for ${name}, ${count}`);
    return site;
  };
  const subjects = Object.fromEntries(
    Object.keys(WAYS).map((name) => [
      name,
      (count: number): Subject => ({ site: siteOf(name, count), path: "/route", body: "tenant" }),
    ]),
  );
  const lines = await sweep(setting, COUNTS, subjects, cpuOf);
  for (const [name, subject] of Object.entries(subjects)) {
    setting.progress(`memory of ${name}`);
    for (const count of COUNTS) await useAll(subject(count), count);
  }
  const memory = Object.keys(WAYS).map((name) => ({
    name,
    points: COUNTS.map((count) => [count, readRssMib(siteOf(name, count).workerPids)] as const),
  }));
  const x: Figure["x"] = { title: "configurations, used in turns", log: true };
  return [
    { name: "routes", title: "Configurations of a plugin", x, y: CPU, lines },
    {
      name: "memory",
      title: "Memory of a worker by its configurations",
      x,
      y: { title: "resident memory of the worker, MiB" },
      lines: memory,
      note: memory
        // Of inline ones the 1,000 used last are kept.
        .filter(({ name }) => name !== "inline")
        .map((line) => `${line.name}: ${kibEach(line)} KiB a configuration`)
        .join("; "),
    },
  ];
}
