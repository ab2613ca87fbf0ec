/** `resty-ts dev` in a project that `resty-ts init` has made: asked, edited, broken, and ended. */
import assert from "node:assert/strict";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ask } from "../../support/clients.js";
import { until, within } from "../../support/deadline.js";
import { findPort } from "../../support/nginx.js";
import { childrenOf, isAlive } from "../../support/proc.js";
import { makeFolder, PROJECT_ROOT } from "../../support/project.js";

const CLI = join(PROJECT_ROOT, "dist/cli/main.js");
const END_MS = 20_000;

describe("resty-ts dev", () => {
  let base: string;
  let project: string;
  let url: string;
  let inspectorPort: number;
  let child: ChildProcess;
  let exited: Promise<number | null>;
  let output = "";

  before(async () => {
    base = makeFolder("dev");
    project = join(base, "project");
    mkdirSync(join(base, "tmp"));
    execFileSync(process.execPath, [CLI, "init", project], { stdio: "ignore" });
    const port = await findPort();
    inspectorPort = await findPort();
    url = `http://127.0.0.1:${port}`;
    child = spawn(
      process.execPath,
      [CLI, "dev", "--port", String(port), "--inspect", String(inspectorPort)],
      {
        cwd: project,
        env: { ...process.env, TMPDIR: join(base, "tmp") },
        stdio: ["ignore", "pipe", "pipe"],
      },
    );
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data: Buffer) => (output += data.toString()));
    }
    exited = new Promise((resolve) => child.once("exit", resolve));
    await untilPrinted(/^listening on /m);
  });
  after(async () => {
    child.kill("SIGTERM");
    await exited;
    rmSync(base, { recursive: true, force: true });
  });

  const untilPrinted = (pattern: RegExp) =>
    until(
      `it prints ${String(pattern)}`,
      () => pattern.exec(output),
      END_MS,
      () => output,
    );

  const plugin = (): string => join(project, "src/plugins/hello.ts");
  const edit = (from: string, to: string): void => {
    const text = readFileSync(plugin(), "utf8");
    assert.ok(text.includes(from));
    writeFileSync(plugin(), text.replace(from, to));
  };

  test("serves the project's routes, and prints requests with their phases", async () => {
    const reply = await ask(`${url}/?name=Ada`);
    assert.deepEqual(reply.json(), { text: "Hello, Ada!" });
    await untilPrinted(
      /^200 GET \/\?name=Ada [\d.]+ ms {2}rewrite [\d.]+ ms, access [\d.]+ ms, header_filter /m,
    );
  });

  test("--inspect opens the inspector of the Node in the worker", async () => {
    await untilPrinted(/^notice resty\.ts: the inspector listens on 127\.0\.0\.1:\d+$/m);
    const reply = await ask(`http://127.0.0.1:${inspectorPort}/json/version`);
    assert.match(reply.json<{ Browser: string }>().Browser, /^node\.js\/v\d+/);
  });

  test("an edited plugin answers soon", async () => {
    edit("world", "moon");
    await until("the new version answers", async () => {
      const { text } = (await ask(url)).json<{ text: string }>();
      return text === "Hello, moon!";
    });
    await untilPrinted(/^notice resty\.ts: reloaded: hello$/m);
  });

  test("what a handler throws is printed with its line in TypeScript", async () => {
    edit(
      "const name = ",
      'if (ctx.request.path === "/oops") throw new Error("oops");\n    const name = ',
    );
    await until("the new version fails", async () => (await ask(`${url}/oops`)).status === 500);
    await untilPrinted(
      /^error resty\.ts: hello, access.*oops\n +at .*src\/plugins\/hello\.ts:9:\d+/m,
    );
    await untilPrinted(/^500 GET \/oops /m);
  });

  test("one that does not compile is told, and the one before goes on", async () => {
    edit("access(ctx", "access((ctx");
    await untilPrinted(/^error resty\.ts: .*hello\.ts:\d+:\d+: Expected/m);
    assert.equal((await ask(url)).status, 200);
  });

  test("Ctrl-C ends it, and leaves nothing behind", async () => {
    const [master] = childrenOf(child.pid!);
    const workers = childrenOf(master!);
    assert.ok(workers.length > 0);
    child.kill("SIGINT");
    assert.equal(await within("it ends", exited, END_MS), 0);
    assert.deepEqual([master!, ...workers].filter(isAlive), []);
    assert.deepEqual(readdirSync(join(base, "tmp")), []);
  });

  test("says what is wrong with what it is given", async () => {
    const wrong = (...args: string[]): string => {
      try {
        execFileSync(process.execPath, [CLI, "dev", ...args], {
          cwd: base,
          encoding: "utf8",
          stdio: "pipe",
        });
        return "";
      } catch (error) {
        const { status, stderr } = error as { status: number; stderr: string };
        return `${status} ${stderr}`;
      }
    };
    writeFileSync(join(base, "a.json"), '{ "routes": [{ "path": "/;", "plugins": [] }] }');
    const given = ["--plugins", join(project, "src/plugins"), "--config"];
    assert.match(wrong(...given, "a.json"), /^2 a\.json: routes\[0\]\.path is a location/);
    assert.match(wrong(...given, "none.json"), /^2 none\.json cannot be read .*resty-ts init/);
    assert.match(wrong("--port", "x"), /^2 .*a port is a whole number from 1 to 65535/s);
    assert.match(wrong(), /^2 there is no folder plugins and no src\/plugins here/);
  });
});
