// What more request fields cost: the plugin reads five, however many there are.
import { REQUEST_HEADERS } from "../cases.ts";
import type { Headers } from "../exchange.ts";
import { serving } from "../locations.ts";
import type { Figure } from "./figure.ts";
import { CPU, cpuOf, type Setting, type Subject, sweep } from "./sweep.ts";

const COUNTS = [5, 10, 20, 50, 100];
/** The fields that are read. */
const READ = ["accept-language", "user-agent", "x-forwarded-for", "x-request-id", "x-user-id"];

function fieldsOf(count: number): Headers {
  const read = Object.entries(REQUEST_HEADERS).filter(([name]) => READ.includes(name));
  const others = Array.from({ length: count - read.length }, (_, i) => {
    return [`x-other-${i}`, `a value of a common length, ${i}`] as const;
  });
  return Object.fromEntries([...read, ...others]);
}

export async function fields(setting: Setting): Promise<Figure[]> {
  const site = await setting.start({ workers: 1, ...serving({ targets: ["lua", "ts", "njs"] }) });
  const of =
    (target: string) =>
    (count: number): Subject => {
      return { site, path: `/${target}/fields`, headers: fieldsOf(count), body: "ok" };
    };
  return [
    {
      name: "fields",
      title: "Request fields (a plugin reads five of them)",
      x: { title: "fields of the request, beside Host" },
      y: CPU,
      lines: await sweep(setting, COUNTS, { ts: of("ts"), lua: of("lua"), njs: of("njs") }, cpuOf),
    },
  ];
}
