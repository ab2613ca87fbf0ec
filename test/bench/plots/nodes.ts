// Node's versions: the embedded one, and those that are processes.
import { nodes as installed } from "../../../scripts/lib/nodes.mjs";
import { pathOf, requestHeadersOf } from "../cases.ts";
import { checkCalls, nodeMajorOf } from "../crossings.ts";
import { serving } from "../locations.ts";
import type { Figure } from "./figure.ts";
import { RATE, rateOf, type Setting, type Subject, sweep } from "./sweep.ts";

const CASES = { echo: "hello", fields: "ok", headers: "ok" } as const;

export async function nodes(setting: Setting): Promise<Figure[]> {
  const targets = ["ts"] as const;
  const embedded = await setting.start({ workers: 1, ...serving({ targets }) });
  const all = [{ label: `${await nodeMajorOf(embedded)}, embedded`, site: embedded }];
  for (const [major, node] of installed()) {
    const site = await setting.start({ workers: 1, ...serving({ targets, node }) });
    all.push({ label: `${major}, process`, site });
  }
  const of =
    (name: keyof typeof CASES) =>
    (at: number): Subject => ({
      ...{ site: all[at]?.site ?? embedded, path: pathOf(name, "ts") },
      ...{ headers: requestHeadersOf(name), body: CASES[name] },
    });
  const subjects = { echo: of("echo"), fields: of("fields"), headers: of("headers") };
  const lines = await sweep(setting, [...all.keys()], subjects, rateOf);
  for (const { site } of all) await checkCalls(site);
  return [
    {
      name: "nodes",
      title: "Versions of Node (three cases, 16 connections)",
      x: { title: "Node", show: (at) => all[at]?.label ?? "" },
      y: RATE,
      lines,
    },
  ];
}
