/**
 * docs/quick-start.md, read and done on this machine. The registry is one on loopback with this
 * project, as npm packs it; the port is free; the packages of Debian are those that are here.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { findPort } from "../../support/nginx.js";
import { makeFolder } from "../../support/project.js";
import { blocksOf, readDoc } from "./markdown.js";
import { Reader } from "./reader.js";
import { Registry } from "./registry.js";

const isDebians = (text: string): boolean => text.startsWith("apt-get ");
const blocks = blocksOf(readDoc("quick-start.md")).filter(({ text }) => !isDebians(text));

describe("docs/quick-start.md", () => {
  let base: string;
  let temporary: string;
  let registry: Registry;
  let reader: Reader;

  before(async () => {
    base = makeFolder("quick");
    temporary = makeFolder("quick-tmp");
    registry = await Registry.start(join(base, "registry"));
    const port = await findPort();
    const env = { ...registry.environment(base), TMPDIR: temporary };
    reader = new Reader(
      {
        home: base,
        start: (commands, folder) =>
          spawn("bash", ["--norc", "-euo", "pipefail", "-c", commands], {
            cwd: join(base, folder),
            env,
            // All that runs in a terminal is one group.
            detached: true,
            stdio: ["ignore", "pipe", "pipe"],
          }),
        interrupt: (shell) => process.kill(-shell.pid!, "SIGINT"),
      },
      (text) => text.replaceAll("8080", String(port)),
    );
  });
  after(async () => {
    await reader.close();
    registry.close();
    rmSync(base, { recursive: true, force: true });
    rmSync(temporary, { recursive: true, force: true });
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
    assert.deepEqual(
      readdirSync(temporary).filter((name) => name.startsWith("resty-ts-dev-")),
      [],
    );
  });
});
