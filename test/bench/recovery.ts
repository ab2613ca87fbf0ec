// How long service is away when an environment has ended: from its end, as its worker sees it, to
// the next good answer of the module that ended it. Alone on the machine, with nothing else to do.
//
//     npm run bench:recovery -- [--rounds 20] [--json FILE]
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { untilState } from "../support/bridge.js";
import { sleep } from "../support/deadline.js";
import { withNginx, type Nginx } from "../support/nginx.js";
import { content } from "../support/nginx-config.js";

const BOTH = ["embedded", "process"] as const;
const PROCESS = ["process"] as const;
type Runtime = (typeof BOTH)[number];

const FAULTS: Record<string, readonly Runtime[]> = {
  exit: BOTH,
  uncaught: BOTH,
  spin: BOTH,
  fill: BOTH,
  abort: PROCESS,
  segfault: PROCESS,
  "kill -9": PROCESS,
};
/** After a shorter life the next start is put off. */
const STEADY_MS = 1100;

interface Round {
  code: string;
  ms: number;
}

interface Figure {
  runtime: Runtime;
  fault: string;
  rounds: number;
  median_ms: number;
  least_ms: number;
  most_ms: number;
}

/** One call is in flight, which says when the environment has ended; then the other is made. */
const ROUND = `
  local faulty = ts.import("faulty.ts")
  local now_ms = ts.internal.client().now_ms
  local held = ngx.thread.spawn(function()
      local _, _, code = faulty.held()
      return code, now_ms()
  end)
  while faulty.inFlight() ~= 1 do
      ngx.sleep(0.001)
  end
  local kind = ngx.var.arg_kind
  if kind == "kill" then
      require("ffi").C.kill(ts.stats().process_id, 9)
  else
      ngx.thread.spawn(function()
          ts.call(faulty.fault, { timeout_ms = 100 }, kind)
      end)
  end
  local _, code, ended = ngx.thread.wait(held)
  local answer, err = faulty.ok("well")
  t.json { code = code, ms = now_ms() - ended, err = answer ~= "well" and err or nil }`;

async function measure(nginx: Nginx, kind: string, rounds: number): Promise<number[]> {
  const list: number[] = [];
  // The first is for warming up: the compiler, the page cache.
  for (let i = 0; i <= rounds; i++) {
    await untilState(nginx, "ready");
    await sleep(STEADY_MS);
    const { ms, code, err } = await nginx.json<Round & { err?: string }>(`/round?kind=${kind}`);
    if (err !== undefined || !/^(exited|stalled|out_of_memory)$/.test(code)) {
      throw new Error(`${kind}: ${code} ${err ?? ""}`);
    }
    if (i > 0) list.push(ms);
  }
  return list.sort((a, b) => a - b);
}

async function figureOf(runtime: Runtime, fault: string, rounds: number): Promise<Figure> {
  const ts = { runtime, timeout_ms: 60_000, stall_ms: 50, max_heap_mb: 64 };
  const list = await withNginx(
    {
      ts,
      allowLog: [/resty\.ts: /],
      init: `require("ffi").cdef "int kill(int pid, int signo);"`,
      locations: { "= /round": content(ROUND) },
    },
    (nginx) => measure(nginx, fault === "kill -9" ? "kill" : fault, rounds),
  );
  return {
    runtime,
    fault,
    rounds,
    median_ms: list[list.length >> 1]!,
    least_ms: list[0]!,
    most_ms: list[list.length - 1]!,
  };
}

const { values } = parseArgs({
  options: { rounds: { type: "string", default: "20" }, json: { type: "string" } },
});
const figures: Figure[] = [];
console.log("| runtime | what ended it | median ms | least | most |\n|---|---|---|---|---|");
for (const runtime of BOTH) {
  for (const [fault, runtimes] of Object.entries(FAULTS)) {
    if (!runtimes.includes(runtime)) continue;
    const figure = await figureOf(runtime, fault, Number(values.rounds));
    figures.push(figure);
    const cells = [figure.median_ms, figure.least_ms, figure.most_ms].map((ms) => ms.toFixed(0));
    console.log(`| ${runtime} | ${fault} | ${cells.join(" | ")} |`);
  }
}
if (values.json !== undefined) writeFileSync(values.json, JSON.stringify(figures, undefined, 2));
