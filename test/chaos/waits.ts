/**
 * How long the sites' plain locations kept their clients waiting through the run, and that of an
 * nginx without the bridge, which is asked meanwhile.
 *
 * Not counted is what is nobody's wait: a worker that is paused, and what filters may block for the
 * start of an environment (docs/phases.md), which is said beside it.
 */
import { besideMs, MANY_REQUESTS, Probers, type Wait } from "../support/longest-wait.js";
import { Nginx } from "../support/nginx.js";
import { WORKERS, type Site } from "./site.js";
import { say } from "./tally.js";

/** When a worker's waits are not counted; by CLOCK_MONOTONIC, as Lua has it, too, ms. */
export interface Span {
  worker: number;
  from: number;
  to: number;
}

const PROBE_MS = 10;
const SHOWN = 5;

export const monotonicMs = (): number => Number(process.hrtime.bigint()) / 1e6;

function overlapMs({ worker, from, to }: Span, spans: readonly Span[]): number {
  return spans
    .filter((span) => span.worker === worker)
    .map((span) => Math.max(0, Math.min(to, span.to) - Math.max(from, span.from)))
    .reduce((sum, ms) => sum + ms, 0);
}

export class Waits {
  readonly #sites: readonly Site[];
  readonly #control: Nginx;
  readonly #waits: (Wait & { after: string })[] = [];
  readonly #probers: Probers;

  private constructor(sites: readonly Site[], control: Nginx) {
    this.#sites = sites;
    this.#control = control;
    const asked = sites.map(({ nginx }) => ({ nginx, workers: WORKERS }));
    this.#probers = new Probers(PROBE_MS, [{ nginx: control, workers: 1 }, ...asked], (wait) => {
      const site = sites.find(({ nginx }) => nginx.port === wait.port);
      this.#waits.push({ ...wait, after: site?.lastFault ?? "" });
    });
  }

  static async start(sites: readonly Site[]): Promise<Waits> {
    return new Waits(sites, await Nginx.start({ ts: false, http: MANY_REQUESTS }));
  }

  #longestOf({ nginx, paused, blocked, runtime }: Site): string {
    const waits = this.#waits
      .filter(({ port }) => port === nginx.port)
      .map((wait) => ({
        ...wait,
        counted: Math.max(0, wait.ms - overlapMs(wait, [...paused, ...blocked])),
      }))
      .sort((a, b) => b.counted - a.counted);
    for (const wait of waits.slice(0, SHOWN)) {
      const beside = besideMs(wait, this.#control, this.#waits);
      say(`${wait.counted.toFixed(0)} ms, ${runtime}, after ${wait.after}; beside it ${beside}`);
    }
    return `${(waits[0]?.counted ?? 0).toFixed(0)} ms ${runtime}`;
  }

  /** @returns what the run's last line has of them. */
  async stop(): Promise<string> {
    const totals = await this.#probers.stop();
    await this.#control.stop();
    const blocked = this.#sites.flatMap(({ blocked }) => blocked).map(({ from, to }) => to - from);
    const most = Math.max(0, ...blocked).toFixed(0);
    say(`\nfilters blocked a worker for starts ${blocked.length} times, ${most} ms at most`);
    const requests = [...totals.values()].reduce((sum, one) => sum + one.requests, 0);
    say(`a plain location was asked ${requests} times; its longest waits:`);
    const longest = this.#sites.map((site) => this.#longestOf(site));
    const control = totals.get(this.#control.port!)!.longestMs;
    return `${longest.join(", ")}, ${control.toFixed(0)} ms without the bridge`;
  }
}
