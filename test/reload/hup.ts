/** nginx's own reload, HUP, under constant load, with what is loaded changed before each. */
import { until } from "../support/deadline.js";
import { type Nginx, type NginxOptions, withNginx } from "../support/nginx.js";
import { plainContent } from "../support/nginx-config.js";
import { childrenOf, descriptorsOf, rssOf } from "../support/proc.js";
import { gatewayOptions, kindsOf, type Runtime } from "./gateway.js";
import { Sources } from "./sources.js";
import { type Kind, Traffic } from "./traffic.js";

export interface HupOptions {
  /** "plain": an nginx without the bridge, to compare with. */
  readonly runtime: Runtime | "plain";
  readonly hups: number;
  /** As many that are kept, and as many that are not. */
  readonly connections: number;
  readonly say: (line: string) => void;
}

export interface HupResult {
  readonly calls: number;
  readonly failed: number;
  /** Connections that were kept, and closed by nginx before the answer to another request began. */
  readonly closed: number;
  readonly failures: readonly string[];
}

const WORKERS = 2;
const FIGURES = 10;

const PLAIN: NginxOptions = {
  workers: WORKERS,
  locations: { "= /plain": plainContent(`ngx.sleep(0.002) ngx.print("plain")`) },
};
const PLAIN_KIND: Kind = {
  name: "plain",
  before: () => 0,
  path: () => "/plain",
  check: ({ status, text }) => (text === "plain" ? undefined : `status ${String(status)}: ${text}`),
};

async function hupAgainAndAgain(
  nginx: Nginx,
  kinds: readonly Kind[],
  options: HupOptions,
  beforeEach: (i: number) => void,
  afterEach: () => void,
): Promise<HupResult> {
  const { connections } = options;
  const loads = [false, true].map(
    (keepAlive) => new Traffic({ origin: nginx.url, kinds, connections, keepAlive }),
  );
  const sum = (field: "answered" | "failed" | "closed"): number =>
    loads.reduce((total, load) => total + load[field], 0);
  const every = Math.max(1, Math.floor(options.hups / FIGURES));
  for (let i = 1; i <= options.hups; i++) {
    beforeEach(i);
    const answered = loads.map((load) => load.answered);
    await nginx.reload();
    // Both kinds of connection have met the new workers.
    await until("requests are answered", () =>
      loads.every((load, k) => load.answered > answered[k]!),
    );
    afterEach();
    if (i % every === 0) {
      const mib = (rssOf(nginx.masterPid) / 1048576).toFixed(1);
      options.say(
        `${options.runtime}, ${String(i)} HUPs: master: RSS ${mib} MiB, ` +
          `${String(descriptorsOf(nginx.masterPid).size)} descriptors, ` +
          `${String(childrenOf(nginx.masterPid).length)} children; ${String(sum("answered"))} answered, ` +
          `${String(sum("failed"))} failed, ${String(sum("closed"))} closed`,
      );
    }
  }
  await Promise.all(loads.map((load) => load.stop()));
  return {
    calls: sum("answered"),
    failed: sum("failed"),
    closed: sum("closed"),
    failures: loads.flatMap((load) => load.failures),
  };
}

export function hups(options: HupOptions): Promise<HupResult> {
  const { runtime } = options;
  if (runtime === "plain") {
    const nothing = (): void => undefined;
    return withNginx(PLAIN, (nginx) =>
      hupAgainAndAgain(nginx, [PLAIN_KIND], options, nothing, nothing),
    );
  }
  return withNginx(gatewayOptions(runtime, WORKERS), (nginx) => {
    const sources = new Sources(nginx.prefix);
    const committed = { module: 1, plugin: 1 };
    return hupAgainAndAgain(
      nginx,
      kindsOf(sources, committed, true),
      options,
      (i) => {
        sources.change(i % 2 === 0 ? "module" : "plugin", i % 3 === 0 ? "lib" : "own", i + 1);
      },
      () => {
        for (const subject of ["module", "plugin"] as const)
          committed[subject] = sources.last(subject);
      },
    );
  });
}
