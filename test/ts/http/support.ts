/** An engine without nginx, and the messages that Lua would send it. */
import { type Caller, Engine, type EngineOptions } from "../../../src/http/engine.ts";
import { encodeHead, type HeadParts } from "../../../src/http/head.ts";
import { PhaseNumber } from "../../../src/http/phases.ts";
import { checkDefinition } from "../../../src/http/definition.ts";
import { type Plugin, RestyTsError } from "../../../src/sdk/index.ts";

const log = { error() {}, warn() {}, notice() {}, info() {}, debug() {} };

export const open = (...plugins: Plugin[]) => openWith({}, ...plugins);

export function openWith(options: Partial<EngineOptions>, ...plugins: Plugin[]) {
  const reports: string[] = [];
  const engine = new Engine({
    async loadPlugin(name) {
      const found = plugins.find((plugin) => plugin.name === name);
      if (!found) throw new RestyTsError("module_not_found", `there is no plugin ${name}`);
      return checkDefinition(found, name);
    },
    logFor: () => log,
    report: (title, error) => void reports.push(`${title}: ${String(error)}`),
    ask: async (words) => [words.join(" ")],
    checkCarried(value, path) {
      if (typeof value === "function") throw new TypeError(`a function at ${path}`);
    },
    stackOf: (error) => String(error),
    ...options,
  });
  return { engine, reports };
}

export const caller = (): Caller => ({ deadline: Date.now() + 5000, onAbort: undefined });

export function head(parts: Partial<HeadParts> = {}): Uint8Array {
  return encodeHead({
    phase: PhaseNumber.access,
    token: 1,
    requestId: 1,
    method: "GET",
    requestUri: "/a%2Fb?x=1",
    uri: "/a/b",
    args: "x=1",
    remoteAddress: "127.0.0.1",
    requestFields: ["Host", "example.org", "X-A", "1", "x-a", "2"],
    ...parts,
  });
}

export async function runOnce(
  plugin: Plugin,
  conf: unknown = null,
  parts: Partial<HeadParts> = {},
) {
  const { engine } = open(plugin);
  await engine.configure(1, [[plugin.name, conf]]);
  return engine.run(head(parts), null, null, null, caller());
}
