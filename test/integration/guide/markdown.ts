/** What the tests of the documentation read of it: tables, fenced blocks. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PROJECT_ROOT } from "../../support/project.js";

export const readDoc = (name: string): string =>
  readFileSync(join(PROJECT_ROOT, "docs", name), "utf8");

/** The cells of the first table below a heading, by row; the first row has the columns' titles. */
export function tableBelow(text: string, heading: string): string[][] {
  const start = text.indexOf(`\n${heading}\n`);
  if (start < 0) throw new Error(`there is no heading ${heading}`);
  const lines = text.slice(start).split("\n");
  const first = lines.findIndex((line) => line.startsWith("|"));
  const after = lines.findIndex((line, i) => i > first && !line.startsWith("|"));
  return lines
    .slice(first, after)
    .filter((line) => !/^\|[-|]+\|$/.test(line))
    .map((line) =>
      line
        .slice(1, -1)
        .split("|")
        .map((cell) => cell.trim()),
    );
}

export interface Block {
  /** Of the fence's first line: its language, and what stands behind `title=`. */
  readonly language: string;
  readonly title: string | undefined;
  readonly text: string;
  readonly line: number;
}

/** The fenced blocks in their order. */
export function blocksOf(text: string): Block[] {
  return [...text.matchAll(/^```(\w+)(?: title=(\S+))?\n(.*?)^```$/gms)].map((match) => ({
    language: match[1] ?? "",
    title: match[2],
    text: match[3] ?? "",
    line: text.slice(0, match.index).split("\n").length,
  }));
}
