/** The one corpus, and running inputs through the decoders of Lua and TypeScript. */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setImmediate as turn } from "node:timers/promises";
import { PROJECT_ROOT } from "../support/project.ts";
import { runHost } from "./host.ts";
import type { LuaChild } from "./lua-child.ts";
import { expectedOfLua } from "./model.ts";

export const CORPUS = join(PROJECT_ROOT, "test/fuzz/corpus");

/** Names and inputs. */
export const readCorpus = (): [string, Buffer][] =>
  readdirSync(CORPUS).map((name) => [name, readFileSync(join(CORPUS, name))]);

/** What is wrong with how `input` was handled, or undefined. */
function verdict(input: Buffer, lua: string): { wrong?: string; outcome: string } {
  try {
    const expected = expectedOfLua(input);
    if (lua !== expected) return { wrong: `Lua: ${lua}\nmust be: ${expected}`, outcome: "" };
    return { outcome: `${lua} ${runHost(input)}` };
  } catch (error) {
    return { wrong: `TypeScript: ${(error as Error).stack}`, outcome: "" };
  }
}

/** Values, lengths and repetition do not make an outcome another one. */
function kindOf(outcome: string): string {
  const kinds = outcome.split(" ").map((one) => one.replace(/[0-9a-f]{2,}/g, "0").slice(0, 10));
  return [...new Set(kinds)].sort().join(" ");
}

/** Runs them all. @returns what is wrong, and what kind of outcome each had. */
export async function runAll(
  child: LuaChild,
  inputs: readonly Buffer[],
): Promise<{ wrong: [number, string][]; outcomes: string[] }> {
  const lua = await child.run(inputs);
  const wrong: [number, string][] = [];
  const outcomes = lua.map((line, i) => {
    const one = verdict(inputs[i]!, line);
    if (one.wrong !== undefined) wrong.push([i, one.wrong]);
    return kindOf(one.outcome);
  });
  await turn(); // answers that came late
  return { wrong, outcomes };
}
