// npm run bench -- --plots: how costs grow, as Markdown tables on stdout and as SVG files.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import type { Ends } from "../ends.ts";
import { startNginx } from "../nginx.ts";
import type { Options } from "../options.ts";
import { PROJECT_DIR } from "../support.ts";
import { bodies } from "./bodies.ts";
import { chain } from "./chain.ts";
import { fields } from "./fields.ts";
import { type Figure, svgOf, tableOf } from "./figure.ts";
import { latency } from "./latency.ts";
import type { Plot } from "./names.ts";
import { nodes } from "./nodes.ts";
import { routes } from "./routes.ts";
import { start } from "./start.ts";
import type { Setting } from "./sweep.ts";
import { connections, workers } from "./workers.ts";

const FOLDER = join(PROJECT_DIR, "docs", "plots");
const SECONDS = 1;

const MEASURE: Readonly<Record<Plot, (setting: Setting) => Promise<Figure[]>>> = {
  ...{ chain, fields, bodies, routes, workers, connections },
  ...{ latency, nodes, start },
};

async function measure(name: Plot, options: Options, ends: Ends): Promise<Figure[]> {
  const { repeats, seconds = SECONDS } = options;
  const dir = mkdtempSync(join(tmpdir(), "resty-ts-plots-"));
  ends.add(() => {
    rmSync(dir, { recursive: true, force: true });
  });
  let sites = 0;
  const figures = await MEASURE[name]({
    ...{ dir, repeats, seconds },
    progress: (text) => void process.stderr.write(`… ${name}: ${text}\n`),
    async start(site) {
      const started = await startNginx(join(dir, `nginx-${String(sites++)}`), site);
      ends.add(() => started.stop());
      return started;
    },
  });
  await ends.run();
  return figures;
}

/** Measures and draws the plots that are asked for, one after the other. */
export async function drawPlots(options: Options, ends: Ends): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  const all: Figure[] = [];
  for (const name of options.plots) {
    for (const figure of await measure(name, options, ends)) {
      all.push(figure);
      process.stdout.write(`${tableOf(figure)}\n\n`);
      writeFileSync(join(FOLDER, `${figure.name}.svg`), svgOf(figure));
    }
  }
  if (options.jsonFile === undefined) return;
  writeFileSync(options.jsonFile, `${JSON.stringify(all, null, 2)}\n`);
}
