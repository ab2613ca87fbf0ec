// How long the first request of a worker waits for Node, by the plugins that the worker loads.
import { REQUEST_HEADERS } from "../cases.ts";
import { call, location, plugin, startNode } from "../locations.ts";
import type { Figure } from "./figure.ts";
import { writeLinks } from "./links.ts";
import { interleave, type Setting } from "./sweep.ts";

const COUNTS = [1, 10, 20, 50, 100];

export async function start(setting: Setting): Promise<Figure[]> {
  const run = (extension: "ts" | "mjs") => {
    const folders = COUNTS.map((count) => writeLinks(setting.dir, count, extension));
    return async (count: number): Promise<number> => {
      const site = await setting.start({
        workers: 1,
        init:
          call("bench_growth", "begin") +
          startNode({ plugins: folders[COUNTS.indexOf(count)] ?? "" }),
        locations: location("/start", {
          access: plugin("access", `link-${count}`),
          content: call("bench_growth", "print_ms"),
        }),
      });
      const { status, body } = await site.get("/start", REQUEST_HEADERS);
      if (status !== 200) throw new Error(`/start answered ${status}: ${site.errorLog()}`);
      await site.stop();
      return Number(body);
    };
  };
  return [
    {
      name: "start",
      title: "Start of a worker",
      x: { title: "plugins in the folder" },
      y: { title: "from the worker's start to its first answer, ms" },
      lines: await interleave(setting, COUNTS, { TypeScript: run("ts"), JavaScript: run("mjs") }),
    },
  ];
}
