/**
 * docs/quick-start.md as tests, one for each block, on whichever machine its reader has. The registry
 * is one on loopback with this project, as npm packs it, and the port is free.
 */
import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findPort } from "../../support/nginx.js";
import { makeFolder } from "../../support/project.js";
import { blocksOf, readDoc } from "./markdown.js";
import { Reader, type ReadersMachine } from "./reader.js";
import { Registry } from "./registry.js";

export interface Reading {
  /** Blocks that are not followed, by their first lines. */
  readonly except?: RegExp;
  /** A folder of prebuilt libraries to pack; else those of the project, or of its build. */
  readonly prebuilds?: string;
  /** @param home the reader's. @param registry whose environment their commands get. */
  machine(home: string, registry: Registry): ReadersMachine;
}

/** Of a shell that stops at the first command that fails. */
export const SHELL = ["bash", "--norc", "-euo", "pipefail", "-c"] as const;

/** In the reader's home. */
export const TEMPORARY = "tmp";

export function readQuickStart(where: string, reading: Reading): void {
  const { except, prebuilds } = reading;
  const blocks = blocksOf(readDoc("quick-start.md")).filter(({ text }) => !except?.test(text));

  describe(`docs/quick-start.md, ${where}`, () => {
    let base: string;
    let home: string;
    let registry: Registry;
    let reader: Reader;

    before(async () => {
      base = makeFolder("quick");
      home = makeFolder("quick-home");
      registry = await Registry.start(base, prebuilds);
      const port = await findPort();
      reader = new Reader(reading.machine(home, registry), (text) =>
        text.replaceAll("8080", String(port)),
      );
    });
    after(async () => {
      await reader.close();
      registry.close();
      rmSync(base, { recursive: true, force: true });
      rmSync(home, { recursive: true, force: true });
    });

    let brokenAt: number | undefined;
    for (const block of blocks) {
      const [title = ""] = (block.title ?? block.text).split("\n");
      test(`line ${block.line}: ${title}`, async (t) => {
        if (brokenAt !== undefined) return t.skip(`the page broke off at line ${brokenAt}`);
        brokenAt = block.line;
        await reader.follow(block);
        brokenAt = undefined;
      });
    }

    test("Ctrl-C ends it, and leaves nothing behind", async () => {
      await reader.close();
      const left = readdirSync(join(home, TEMPORARY));
      assert.deepEqual(
        left.filter((name) => name.startsWith("resty-ts-")),
        [],
      );
    });
  });
}
