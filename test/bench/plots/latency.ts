// How long requests take when the worker has time to spare: by load.
import { REQUEST_HEADERS } from "../cases.ts";
import { serving } from "../locations.ts";
import { median } from "../support.ts";
import type { Figure } from "./figure.ts";
import { prepare, type Sample, sample, type Setting, type Subject } from "./sweep.ts";

const TARGETS = ["ts", "lua", "njs"] as const;
const SHARES = [0.1, 0.25, 0.5, 0.75];
const CONNECTIONS = 256;

/** wrk's connections pause between requests, so that all of them make this many a second. */
function paused(subject: Subject, rps: number): Subject {
  return { ...subject, pauseMs: (CONNECTIONS * 1000) / rps };
}

export async function latency(setting: Setting): Promise<Figure[]> {
  const { repeats, seconds, progress } = setting;
  const site = await setting.start({ workers: 1, ...serving({ targets: TARGETS }) });
  const found = TARGETS.map((target) => ({
    target,
    subject: {
      ...{ site, path: `/${target}/fields`, headers: REQUEST_HEADERS, body: "ok" },
      connections: CONNECTIONS,
    },
    most: 0,
    samples: SHARES.map((): Sample[] => []),
  }));
  for (const one of found) {
    await prepare(one.subject);
    one.most = (await sample(one.subject, seconds)).rps;
  }
  for (let repeat = 1; repeat <= repeats; repeat += 1) {
    progress(`repeat ${repeat} of ${repeats}`);
    for (const [at, share] of SHARES.entries()) {
      for (const { subject, most, samples } of found) {
        samples[at]?.push(await sample(paused(subject, share * most), seconds));
      }
    }
  }
  const lineOf = (name: string, of: (one: Sample) => number) => {
    return found.map(({ target, samples }) => ({
      name: `${target}, ${name}`,
      points: samples.map((all, at) => [(SHARES[at] ?? NaN) * 100, median(all.map(of))] as const),
    }));
  };
  const p50 = lineOf("p50", ({ p50Us }) => p50Us);
  const p99 = lineOf("p99", ({ p99Us }) => p99Us);
  return [
    {
      name: "latency",
      title: `Time to answer by load (case fields, ${CONNECTIONS} connections)`,
      x: { title: "requests/s, % of what the target can do", show: (share) => `${share} %` },
      y: { title: "time to answer, µs", log: true },
      lines: p50.flatMap((line, at) => {
        const tail = p99[at];
        return tail === undefined ? [line] : [tail, { ...line, beside: tail.name }];
      }),
    },
  ];
}
