// What larger bodies cost, by the ways in which a plugin makes or sees one.
import { checkCalls } from "../crossings.ts";
import { call, location, plugin, startNode } from "../locations.ts";
import { LINE } from "../cases.ts";
import type { Figure, Line } from "./figure.ts";
import { CPU, cpuOf, type Setting, type Subject, sweep } from "./sweep.ts";

const KIB = 1024;
const MIB = 1024 * KIB;
const SIZES = [KIB, 10 * KIB, 100 * KIB, MIB, 10 * MIB];
const CONNECTIONS = 4;
/** A run must have some answers of each size. */
const LARGE_SECONDS = 3;

function sizeText(bytes: number): string {
  return bytes < MIB ? `${bytes / KIB} KiB` : `${bytes / MIB} MiB`;
}

const growth = (name: string, argument = ""): string => call("bench_growth", name, argument);

function locations(size: number): string[] {
  const bytes = String(size);
  const conf = `{ bytes = ${bytes} }`;
  const answer = call("bench_lua", "answer", bytes);
  const length = growth("body_length");
  return [
    location(`/lua/set/${bytes}`, { access: growth("set_body", bytes), content: length }),
    location(`/ts/set/${bytes}`, { access: plugin("access", "set-body", conf), content: length }),
    location(`/lua/filter/${bytes}`, { content: answer, body_filter: call("bench_lua", "mask") }),
    location(`/ts/filter/${bytes}`, {
      content: answer,
      header_filter: plugin("header_filter", "body"),
      body_filter: plugin("body_filter", "body"),
    }),
    location(`/lua/stream/${bytes}`, { content: growth("stream", bytes) }),
    location(`/ts/stream/${bytes}`, { content: plugin("content", "stream", conf) }),
  ];
}

export async function bodies(setting: Setting): Promise<Figure[]> {
  const site = await setting.start({
    workers: 1,
    init: startNode(),
    locations: [
      "client_body_buffer_size 16m;",
      location("/ts/stats", { content: call("bench_ts", "stats") }),
      ...SIZES.flatMap(locations),
    ].join("\n"),
  });
  const of =
    (path: string, bodyOf: (bytes: number) => string) =>
    (bytes: number): Subject => ({
      ...{ site, path: `${path}/${bytes}`, body: bodyOf(bytes), connections: CONNECTIONS },
      seconds: bytes < MIB ? setting.seconds : Math.max(setting.seconds, LARGE_SECONDS),
    });
  const text = (bytes: number): string => "x".repeat(bytes);
  const lines = await sweep(
    setting,
    SIZES,
    {
      setBody: of("/ts/set", String),
      "setBody in Lua": of("/lua/set", String),
      bodyFilter: of("/ts/filter", (bytes) => LINE.repeat(bytes / LINE.length)),
      "bodyFilter in Lua": of("/lua/filter", (bytes) => LINE.repeat(bytes / LINE.length)),
      stream: of("/ts/stream", text),
      "stream in Lua": of("/lua/stream", text),
    },
    cpuOf,
  );
  await checkCalls(site);
  const beside = ({ name }: Line): Partial<Line> => {
    return name.endsWith(" in Lua") ? { beside: name.replace(" in Lua", "") } : {};
  };
  return [
    {
      name: "bodies",
      title: "Bodies: replaced, filtered, made as a stream",
      x: { title: "bytes of the body", log: true, show: sizeText },
      y: { ...CPU, log: true },
      lines: lines.map((line) => ({ ...line, ...beside(line) })),
    },
  ];
}
