// How requests/s grow with nginx's workers, and with connections.
import { REQUEST_HEADERS } from "../cases.ts";
import { serving } from "../locations.ts";
import type { Site } from "../nginx.ts";
import type { Figure } from "./figure.ts";
import { RATE, rateOf, type Setting, type Subject, sweep } from "./sweep.ts";

const TARGETS = ["ts", "lua", "njs"] as const;
const WORKERS = [1, 2, 4, 8];
const WORKERS_CONNECTIONS = 64;
const CONNECTIONS = [1, 4, 16, 64, 256, 1000];

function startSite(setting: Setting, count: number): Promise<Site> {
  return setting.start({ workers: count, ...serving({ targets: TARGETS }) });
}

function subjectsOf(
  siteOf: (value: number) => Site,
  connectionsOf: (value: number) => number,
): Record<string, (value: number) => Subject> {
  const of = (target: string) => (value: number) => ({
    ...{ site: siteOf(value), path: `/${target}/fields`, headers: REQUEST_HEADERS, body: "ok" },
    connections: connectionsOf(value),
  });
  return Object.fromEntries(TARGETS.map((target) => [target, of(target)]));
}

export async function workers(setting: Setting): Promise<Figure[]> {
  const sites: Site[] = [];
  for (const count of WORKERS) sites.push(await startSite(setting, count));
  const siteOf = (count: number): Site => {
    const site = sites[WORKERS.indexOf(count)];
    if (site === undefined) throw new Error(`no nginx with ${count} workers`);
    return site;
  };
  const subjects = subjectsOf(siteOf, () => WORKERS_CONNECTIONS);
  return [
    {
      name: "workers",
      title: `Workers (case fields, ${WORKERS_CONNECTIONS} connections)`,
      x: { title: "workers of nginx" },
      y: RATE,
      lines: await sweep(setting, WORKERS, subjects, rateOf),
    },
  ];
}

export async function connections(setting: Setting): Promise<Figure[]> {
  const site = await startSite(setting, 1);
  const subjects = subjectsOf(
    () => site,
    (count) => count,
  );
  return [
    {
      name: "connections",
      title: "Connections (case fields, one worker)",
      x: { title: "connections", log: true },
      y: RATE,
      lines: await sweep(setting, CONNECTIONS, subjects, rateOf),
    },
  ];
}
