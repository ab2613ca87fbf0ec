/**
 * docs/first-plugin.md, read and done: its files are written, its commands run, what they print is
 * compared. What differs from a reader's machine is in `here`, the registry's environment and, for
 * root, a line of writeTitled's; nothing else.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { after, before, describe, test } from "node:test";
import { until } from "../../support/deadline.js";
import { childrenOf, isAlive } from "../../support/proc.js";
import { makeFolder, PROJECT_ROOT } from "../../support/project.js";
import { asRoot } from "../../support/bridge.js";
import { blocksOf, readDoc, type Block } from "./markdown.js";
import { Registry } from "./registry.js";

const blocks = blocksOf(readDoc("first-plugin.md"));
const COMMAND_MS = 120_000;

/** Ports that nobody listens on now. */
async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from(
      { length: count },
      () =>
        new Promise<ReturnType<typeof createServer>>((resolve) => {
          const server = createServer().listen(0, "127.0.0.1", () => resolve(server));
        }),
    ),
  );
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** Each line of the guide's output is one of the command's, in this order; others may be between. */
function assertOutput(output: string, expected: string): void {
  const lines = output.split(/\r?\n/).map((line) => line.trimEnd());
  let at = 0;
  for (const line of expected.trimEnd().split("\n")) {
    const found = lines.findIndex(
      // A test reporter adds how long it took.
      (candidate, i) => i >= at && candidate.replace(/ \([\d.]+ms\)$/, "") === line.trimEnd(),
    );
    assert.ok(found >= 0, `not in the output: ${line}\n--- output\n${output}`);
    at = found + 1;
  }
}

describe("docs/first-plugin.md", () => {
  let base: string;
  let registry: Registry;
  /** What the guide says, and what it is here. */
  let here: [string, string][];
  let output = "";

  before(async () => {
    base = makeFolder("guide");
    registry = await Registry.start(join(base, "registry"));
    const [front, back] = await freePorts(2);
    here = [
      ["/opt/lua-resty-ts", PROJECT_ROOT],
      ["127.0.0.1:8080", `127.0.0.1:${front}`],
      ["127.0.0.1:8081", `127.0.0.1:${back}`],
    ];
  });

  const folder = (): string => join(base, "gateway");

  function masterPid(): number | undefined {
    const file = join(folder(), "logs/nginx.pid");
    return existsSync(file) ? Number(readFileSync(file, "utf8")) : undefined;
  }

  after(() => {
    // Where the guide broke off before it ended its nginx.
    const master = masterPid();
    if (master !== undefined) {
      for (const pid of [master, ...childrenOf(master)]) {
        if (isAlive(pid)) process.kill(pid, "SIGKILL");
      }
    }
    registry.close();
    rmSync(base, { recursive: true, force: true });
  });

  const adapted = (text: string): string =>
    here.reduce((result, [theirs, ours]) => result.replaceAll(theirs, ours), text);

  function runShell(commands: string): Promise<string> {
    const cwd = existsSync(folder()) ? folder() : base;
    const options = {
      cwd,
      env: registry.environment(base),
      timeout: COMMAND_MS,
      maxBuffer: 16 << 20,
    };
    return new Promise((resolve, reject) => {
      execFile(
        "bash",
        ["--norc", "-euo", "pipefail", "-c", commands],
        options,
        (error, stdout, stderr) => {
          if (error === null) return resolve(stdout);
          reject(new Error(`${error.message}\n${stdout}\n${stderr}`, { cause: error }));
        },
      );
    });
  }

  function writeTitled({ title = "", text }: Block): void {
    const file = join(folder(), title);
    mkdirSync(dirname(file), { recursive: true });
    // Run by root, nginx would hand its workers to a user who may not read these folders.
    const user = title === "nginx.conf" && asRoot ? "user root;\n" : "";
    writeFileSync(file, user + adapted(text));
  }

  /** Old workers gone after a reload, everything after a quit: nginx's own command does not wait. */
  async function settle(commands: string, old: number[]): Promise<void> {
    if (commands.includes("-s reload") || commands.includes("-s quit")) {
      await until("the old workers are gone", () => !old.some(isAlive), 20_000);
    }
  }

  let brokenAt: number | undefined;

  /** One block as a test. After one that fails there is no use in the others. */
  function step(block: Block, title: string, body: () => void | Promise<void>): void {
    test(`line ${block.line}: ${title}`, async (t) => {
      if (brokenAt !== undefined) return t.skip(`the guide broke off at line ${brokenAt}`);
      brokenAt = block.line;
      await body();
      brokenAt = undefined;
    });
  }

  for (const block of blocks) {
    const { language, title, text } = block;
    if (title !== undefined) {
      step(block, `the file ${title} is written`, () => {
        writeTitled(block);
      });
    } else if (language === "sh") {
      step(block, text.trim().split("\n").join("; "), async () => {
        const master = masterPid();
        const old = master === undefined ? [] : childrenOf(master);
        if (text.includes("-s quit") && master !== undefined) old.push(master);
        output = await runShell(adapted(text));
        if (text === "npx tsc\n") assert.equal(output, "");
        await settle(text, old);
      });
    } else {
      step(block, "it prints what the guide says", () => {
        assert.equal(language, "text", "a block is a file, commands, or what they print");
        assertOutput(output, adapted(text));
      });
    }
  }

  test("nothing but what the guide shows is in nginx's error log", () => {
    const log = readFileSync(join(folder(), "logs/error.log"), "utf8");
    const severe = log.split("\n").filter((line) => /\[(emerg|alert|crit|error)\]/.test(line));
    const shown = /keys is missing|kees is not an option|not done within 2000 ms/;
    assert.deepEqual(
      severe.filter((line) => !shown.test(line)),
      [],
    );
  });
});
