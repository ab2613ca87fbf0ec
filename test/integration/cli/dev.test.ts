/** `resty-ts dev` in a project that `resty-ts init` has made: asked, edited, broken, and ended. */
import assert from "node:assert/strict";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { ask } from "../../support/clients.js";
import { until, within } from "../../support/deadline.js";
import { findPort } from "../../support/nginx.js";
import { childrenOf, isAlive } from "../../support/proc.js";
import { makeFolder, INSTALLATION, PROJECT_ROOT } from "../../support/project.js";

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
  let original: string;

  before(async () => {
    base = makeFolder("dev");
    project = join(base, "project");
    mkdirSync(join(base, "tmp"));
    execFileSync(process.execPath, [CLI, "init", project], { stdio: "ignore" });
    original = readFileSync(plugin(), "utf8");
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

  async function inspectorAnswers(): Promise<void> {
    const reply = await ask(`http://127.0.0.1:${inspectorPort}/json/version`);
    assert.match(reply.json<{ Browser: string }>().Browser, /^node\.js\/v\d+/);
  }

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
    await inspectorAnswers();
    const port = inspectorPort.toString(16).toUpperCase().padStart(4, "0");
    const sockets = readFileSync("/proc/net/tcp", "latin1").split("\n");
    const listening = sockets.filter((line) => line.includes(`:${port} 00000000:0000 0A`));
    assert.equal(listening.length, 1);
    assert.match(listening[0]!, / 0100007F:/);
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

  const configure = (text: string): void => writeFileSync(join(project, "resty-ts.json"), text);
  const routeWith = (conf: object, path = "/"): string =>
    JSON.stringify({ routes: [{ path, plugins: [{ name: "hello", conf }] }] });

  test("a changed resty-ts.json is taken", async () => {
    writeFileSync(plugin(), original);
    configure(routeWith({ greeting: "Good evening" }, "/greet"));
    await untilPrinted(/^notice reloaded: resty-ts\.json$/m);
    const reply = await ask(`${url}/greet`);
    assert.deepEqual(reply.json(), { text: "Good evening, world!" });
    assert.equal((await ask(url)).status, 404);
    await inspectorAnswers();
  });

  for (const [title, text, says] of [
    ["no JSON", "{", /^error resty-ts\.json is no JSON: /m],
    ["no routes", "{}", /^error resty-ts\.json: `routes` is a list of one or more$/m],
    [
      "a configuration that its plugin refuses",
      routeWith({ greeting: "" }),
      /^error resty-ts\.json: routes\[0\]\.plugins\[0\]\.conf: greeting must NOT have fewer/m,
    ],
    ["a location that nginx refuses", routeWith({}, "~ ("), /^error resty-ts\.json: .*pcre/m],
  ] as const) {
    test(`one with ${title} is told, and what it said before goes on`, async () => {
      output = "";
      configure(text);
      await untilPrinted(says);
      await untilPrinted(/^notice resty-ts\.json: what it said before goes on$/m);
      const reply = await ask(`${url}/greet`);
      assert.deepEqual(reply.json(), { text: "Good evening, world!" });
      assert.doesNotMatch(output, /^notice reloaded/m);
    });
  }

  test("Ctrl-C ends it, and leaves nothing behind", async () => {
    const [master] = childrenOf(child.pid!);
    const workers = childrenOf(master!);
    assert.ok(workers.length > 0);
    child.kill("SIGINT");
    assert.equal(await within("it ends", exited, END_MS), 0);
    assert.deepEqual([master!, ...workers].filter(isAlive), []);
    assert.deepEqual(readdirSync(join(base, "tmp")), []);
  });
});

describe("resty-ts dev that cannot go on", () => {
  let base: string;
  let plugins: string;
  before(() => {
    base = makeFolder("dev-not");
    execFileSync(process.execPath, [CLI, "init", join(base, "project")], { stdio: "ignore" });
    plugins = join(base, "project/src/plugins");
    mkdirSync(join(base, "tmp"));
  });
  after(() => {
    rmSync(base, { recursive: true, force: true });
  });

  /** @returns its exit code, and what it printed to stderr. */
  async function ends(
    args: string[],
    { cwd = join(base, "project"), cli = CLI, onceListening = (): void => undefined } = {},
  ): Promise<string> {
    const child = spawn(process.execPath, [cli, "dev", ...args], {
      cwd,
      env: { ...process.env, TMPDIR: join(base, "tmp") },
      stdio: ["ignore", "pipe", "pipe"],
    });
    child.stdout.on("data", (data: Buffer) => {
      if (data.includes("listening on ")) onceListening();
    });
    let stderr = "";
    child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
    const code = await within(
      `dev ${args.join(" ")} ends`,
      new Promise<number | null>((resolve) => child.once("close", resolve)),
      END_MS,
    ).finally(() => child.kill("SIGTERM"));
    assert.deepEqual(readdirSync(join(base, "tmp")), []);
    return `${code} ${stderr}`;
  }

  /** This package, as it is installed, but for what `change` does to it. @returns its command. */
  function packageWith(name: string, change: (folder: string) => void): string {
    const folder = join(base, name);
    cpSync(join(PROJECT_ROOT, "dist"), join(folder, "dist"), { recursive: true });
    for (const part of ["lua", "node_modules", "package.json", "templates"]) {
      symlinkSync(join(PROJECT_ROOT, part), join(folder, part));
    }
    // But for the host, which a bundle has beside them.
    const libraries = readdirSync(INSTALLATION.libraries).filter((one) => !/^host\./.test(one));
    mkdirSync(join(folder, "build/Release"), { recursive: true });
    for (const one of libraries) {
      symlinkSync(join(INSTALLATION.libraries, one), join(folder, "build/Release", one));
    }
    change(folder);
    return join(folder, "dist/cli/main.js");
  }

  test("says what is wrong with what it is given", async () => {
    writeFileSync(join(base, "a.json"), '{ "routes": [{ "path": "/;", "plugins": [] }] }');
    const given = ["--plugins", plugins, "--config"];
    const wrong = (...args: string[]): Promise<string> => ends(args, { cwd: base });
    assert.match(await wrong(...given, "a.json"), /^2 a\.json: routes\[0\]\.path is a location/);
    assert.match(
      await wrong(...given, "none.json"),
      /^2 none\.json cannot be read .*resty-ts init/,
    );
    assert.match(await wrong("--port", "x"), /^2 .*a port is a whole number from 1 to 65535/s);
    assert.match(await wrong(), /^2 there is no folder plugins and no src\/plugins here/);
    assert.match(await ends(["--plugins", "none"]), /^2 none is no folder: --plugins is one\n$/);
  });

  test("names what nginx lacks", async () => {
    const none = /^1 error: there is no nginx: \/none\ncure: .*--nginx names one elsewhere\n$/;
    assert.match(await ends(["--nginx", "/none"]), none);
    const taken = createServer().listen(0, "127.0.0.1");
    await once(taken, "listening");
    const { port } = taken.address() as AddressInfo;
    const says = /^1 error: .* 127\.0\.0\.1:\d+, as another program listens there: --port names/;
    assert.match(await ends(["--port", String(port)]), says);
    taken.close();
  });

  test("ends with the cause when ts.start fails", async () => {
    const port = String(await findPort());
    const bare = packageWith("bare", (folder) => {
      rmSync(join(folder, "build"), { recursive: true });
    });
    const says = /^1 error: unavailable: libresty_ts\.so is neither on package\.cpath nor in/;
    assert.match(await ends(["--port", port], { cli: bare }), says);
  });

  test("ends with the cause when Node comes to nothing", async () => {
    const port = String(await findPort());
    const broken = packageWith("broken", (folder) => {
      writeFileSync(join(folder, "dist/host.cjs"), 'throw new Error("no such host");\n');
    });
    assert.match(await ends(["--port", port], { cli: broken }), /^1 error: .*no such host/);
  });

  test("ends when its nginx does", async () => {
    const port = String(await findPort());
    const onceListening = (): void => {
      const [folder = ""] = readdirSync(join(base, "tmp"));
      const pid = Number(readFileSync(join(base, "tmp", folder, "nginx.pid"), "utf8"));
      assert.ok(pid > 1);
      process.kill(pid, "SIGTERM");
    };
    const ended = await ends(["--port", port], { onceListening });
    assert.equal(ended, "1 error: nginx has ended: see above\n");
  });
});
