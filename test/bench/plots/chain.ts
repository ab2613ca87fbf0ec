// What more plugins in a chain cost a request.
import { REQUEST_HEADERS } from "../cases.ts";
import { call, location, startNode } from "../locations.ts";
import type { Figure } from "./figure.ts";
import { writeLinks } from "./links.ts";
import { CPU, cpuOf, type Setting, type Subject, sweep } from "./sweep.ts";

const LENGTHS = [1, 2, 5, 10, 15, 20];
const TARGETS = ["lua", "ts"] as const;

function locations(target: (typeof TARGETS)[number]): string[] {
  return LENGTHS.map((length) =>
    location(`/${target}/${length}`, {
      access: call("bench_growth", `${target}_chain`, String(length)),
      content: `ngx.print(ngx.var.http_x_link_${length})`,
    }),
  );
}

export async function chain(setting: Setting): Promise<Figure[]> {
  const most = Math.max(...LENGTHS);
  const site = await setting.start({
    workers: 1,
    init:
      startNode({ plugins: writeLinks(setting.dir, most, "ts") }) +
      call("bench_growth", "make_chains", String(most)),
    locations: TARGETS.flatMap(locations).join("\n"),
  });
  const body = REQUEST_HEADERS["x-request-id"] ?? "";
  const of =
    (target: string) =>
    (length: number): Subject => {
      return { site, path: `/${target}/${length}`, headers: REQUEST_HEADERS, body };
    };
  return [
    {
      name: "chain",
      title: "Plugins in a chain",
      x: { title: "plugins with an access handler" },
      y: CPU,
      lines: await sweep(setting, LENGTHS, { ts: of("ts"), lua: of("lua") }, cpuOf),
    },
  ];
}
