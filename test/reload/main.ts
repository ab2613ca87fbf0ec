/** `npm run test:reload`: scripts/reload.mjs runs it. The last line has the counts. */
import { parseArgs } from "node:util";
import { type HotResult, hotReloads } from "./hot.js";
import { type HupResult, hups } from "./hup.js";
import type { Runtime } from "./gateway.js";

const MiB = 1048576;
/** What a heap that is level may still gain, of its size and beside that. */
const MOST_GROWTH = 0.1;
const MOST_GROWTH_BYTES = MiB;

const { values } = parseArgs({
  options: {
    reloads: { type: "string", default: "1000" },
    hups: { type: "string", default: "200" },
    connections: { type: "string", default: "4" },
    runtime: { type: "string", default: "both" },
  },
});

function count(name: "reloads" | "hups" | "connections"): number {
  const number = Number(values[name]);
  if (Number.isInteger(number) && number >= 0) return number;
  throw new Error(`--${name} ${values[name]}: a whole number`);
}

function runtimesOf(given: string): Runtime[] {
  if (given === "both") return ["embedded", "process"];
  if (given === "embedded" || given === "process") return [given];
  throw new Error(`--runtime ${given}: embedded, process or both`);
}

const say = (line: string): void => console.log(`# ${line}`);
const parts: string[] = [];
let isWrong = false;

function tell({ failures }: HotResult | HupResult): void {
  for (const failure of failures) console.log(`failed: ${failure}`);
}

const connections = count("connections");
for (const runtime of runtimesOf(values.runtime)) {
  const reloads = count("reloads");
  if (reloads > 0) {
    const result = await hotReloads({ runtime, reloads, connections, say });
    tell(result);
    const { first, last } = result;
    const grown = last.heapBytes - first.heapBytes;
    const level = grown <= first.heapBytes * MOST_GROWTH + MOST_GROWTH_BYTES;
    isWrong ||= result.failed > 0 || !level;
    parts.push(
      `${runtime}: ${reloads} reloads (${result.taken} taken, ${result.refused} refused), ` +
        `${result.calls} calls, ${result.failed} failed, heap ${(first.heapBytes / MiB).toFixed(1)} -> ` +
        `${(last.heapBytes / MiB).toFixed(1)} MiB${level ? "" : ", which is not level"}`,
    );
  }
  if (count("hups") > 0) {
    const result = await hups({ runtime, hups: count("hups"), connections, say });
    tell(result);
    isWrong ||= result.failed > 0;
    parts.push(
      `${runtime}: ${values.hups} HUPs, ${result.calls} calls, ${result.failed} failed, ` +
        `${result.closed} kept connections closed`,
    );
  }
}
if (count("hups") > 0) {
  const plain = await hups({ runtime: "plain", hups: count("hups"), connections, say });
  tell(plain);
  parts.push(
    `without the bridge: ${values.hups} HUPs, ${plain.calls} calls, ${plain.failed} failed, ` +
      `${plain.closed} kept connections closed`,
  );
}
console.log(`\n${parts.join("; ")}`);
if (isWrong) process.exitCode = 1;
