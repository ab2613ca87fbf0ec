/**
 * A real nginx for one test: started in a folder of its own, asked over loopback or a unix
 * socket, and checked when it stops. `withNginx` is the way in.
 *
 * nginx leads a session of its own, so whatever it or its workers leave behind can be found
 * after it has ended, whoever the parent is by then.
 */
import { spawn, type ChildProcess } from "node:child_process";
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  readdirSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { ask, askSocket, type AskOptions, type Reply } from "./clients.js";
import { until, within } from "./deadline.js";
import { findLeftovers, unexpectedLines } from "./leftovers.js";
import { renderConfig, SUPPORT_LUA, type ConfigParts, type ConfigPlaces } from "./nginx-config.js";
import { childrenOf, isAlive, sessionMembers, titleOf } from "./proc.js";
import { FIXTURES, INSTALLATION, makeFolder } from "./project.js";

export interface NginxOptions extends ConfigParts {
  listen?: "tcp" | "unix";
  /** Modules to write beside the fixtures: name to source. */
  modules?: Record<string, string>;
  /** Files to write below the prefix, before the start. */
  files?: Record<string, string>;
  /** Error-log lines of level error and above that are part of the test. */
  allowLog?: RegExp[];
  /** A built project elsewhere (stageProject). */
  projectRoot?: string;
  cwd?: string;
  /** Put before nginx on the command line; must exec it: prlimit, setpriv. */
  wrapper?: string[];
  /** The worker is expected to be unable to answer: do not wait for its first answer. */
  deaf?: boolean;
}

export interface Exit {
  code: number | null;
  signal: NodeJS.Signals | null;
  /** When it was noticed, Date.now(). */
  at: number;
}

const START_MS = 15_000;
const STOP_MS = 15_000;
const ORDINARY_WORKER = /^nginx: worker process$/;

const running = new Set<Nginx>();

function killRunning(): void {
  for (const nginx of running) nginx.killAll();
}
process.once("exit", killRunning);
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    killRunning();
    process.kill(process.pid, signal);
  });
}

/** A port that nobody listens on, below the range that outgoing connections take theirs from. */
export async function findPort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 12_000);
    const free = await new Promise<boolean>((resolve) => {
      const probe = createServer();
      probe.once("error", () => resolve(false));
      probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(true)));
    });
    if (free) return port;
  }
}

function defaultUser(options: NginxOptions): ConfigParts {
  // Without a `user`, nginx run by root hands its workers to the user chosen at its build.
  if (options.user !== undefined || process.getuid?.() !== 0) return options;
  return { ...options, user: "root root" };
}

function placesOf({ projectRoot }: NginxOptions): Pick<ConfigPlaces, "projectRoot" | "cpath"> {
  if (projectRoot !== undefined) return { projectRoot };
  const { root, cpath } = INSTALLATION;
  return { projectRoot: root, ...(cpath !== undefined && { cpath }) };
}

export class Nginx {
  readonly prefix: string;
  readonly url: string;
  readonly port: number | undefined;
  readonly socketPath: string | undefined;
  readonly masterPid: number;
  readonly exited: Promise<Exit>;
  exit: Exit | undefined;
  readonly #options: NginxOptions;

  private constructor(
    options: NginxOptions,
    prefix: string,
    listen: { port?: number; socketPath?: string },
    child: ChildProcess,
  ) {
    if (child.pid === undefined) throw new Error("nginx could not be run");
    this.#options = options;
    this.prefix = prefix;
    this.port = listen.port;
    this.socketPath = listen.socketPath;
    this.url = `http://127.0.0.1:${String(listen.port ?? 0)}`;
    this.masterPid = child.pid;
    this.exited = new Promise((resolve) => {
      child.once("exit", (code, signal) => {
        this.exit = { code, signal, at: Date.now() };
        running.delete(this);
        resolve(this.exit);
      });
    });
  }

  /** Starts nginx and waits until a worker answers. The caller owes a `stop()`. */
  static async start(options: NginxOptions = {}): Promise<Nginx> {
    const prefix = makeFolder("nginx");
    for (const folder of ["conf", "logs", "temp", "lua", "modules"]) {
      mkdirSync(join(prefix, folder));
      chmodSync(join(prefix, folder), 0o755);
    }
    // The workers' own, whoever they run as: what stays in it at the end was left behind.
    mkdirSync(join(prefix, "tmp"));
    chmodSync(join(prefix, "tmp"), 0o1777);
    const listen =
      options.listen === "unix"
        ? { socketPath: join(prefix, "nginx.sock") }
        : { port: await findPort() };
    const nginx = Nginx.#spawn(options, prefix, listen);
    try {
      await nginx.#answers();
    } catch (cause) {
      const log = nginx.errorLog();
      nginx.killAll();
      await nginx.exited;
      rmSync(prefix, { recursive: true, force: true });
      throw new Error(`nginx did not start: ${log.slice(-4000)}`, { cause });
    }
    return nginx;
  }

  static #spawn(
    options: NginxOptions,
    prefix: string,
    listen: { port?: number; socketPath?: string },
  ): Nginx {
    const modules = join(prefix, "modules");
    if (existsSync(FIXTURES)) {
      for (const name of readdirSync(FIXTURES)) {
        copyFileSync(join(FIXTURES, name), join(modules, name));
      }
    }
    const files: [string, string][] = [
      [join(prefix, "lua", "support.lua"), SUPPORT_LUA],
      ...Object.entries(options.modules ?? {}).map(([name, text]): [string, string] => [
        join(modules, name),
        text,
      ]),
      ...Object.entries(options.files ?? {}).map(([name, text]): [string, string] => [
        join(prefix, name),
        text,
      ]),
    ];
    for (const [path, text] of files) {
      mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
      writeFileSync(path, text, { mode: 0o644 });
    }
    const config = renderConfig(defaultUser(options), {
      prefix,
      ...placesOf(options),
      listen: listen.socketPath
        ? `unix:${listen.socketPath}`
        : `127.0.0.1:${String(listen.port ?? 0)}`,
    });
    const configPath = join(prefix, "conf", "nginx.conf");
    writeFileSync(configPath, config);

    const [command, ...args] = [
      ...(options.wrapper ?? []),
      ...["nginx", "-p", prefix, "-c", configPath, "-e", join(prefix, "logs", "error.log")],
    ];
    const out = openSync(join(prefix, "logs", "stdout"), "a");
    const err = openSync(join(prefix, "logs", "stderr"), "a");
    const child = spawn(command ?? "nginx", args, {
      cwd: options.cwd ?? prefix,
      stdio: ["ignore", out, err],
      detached: true,
      env: {
        ...process.env,
        NODE_OPTIONS: undefined,
        NODE_V8_COVERAGE: undefined,
        // scripts/sanitized.mjs: nginx itself is not built with the sanitizers that its library needs.
        LD_PRELOAD: process.env.RTS_NGINX_PRELOAD,
      },
    });
    closeSync(out);
    closeSync(err);
    const nginx = new Nginx(options, prefix, listen, child);
    running.add(nginx);
    return nginx;
  }

  async #answers(): Promise<void> {
    await until(
      "nginx answers",
      async () => {
        if (this.exit) throw new Error(`nginx ended: ${JSON.stringify(this.exit)}`);
        if (this.#options.deaf) return this.workerPids().length > 0;
        try {
          return (await this.ask("/_up")).status === 204;
        } catch {
          return false;
        }
      },
      START_MS,
    );
  }

  /** One request on its own connection, over the port or the socket. */
  ask(path: string, options: AskOptions = {}): Promise<Reply> {
    if (this.socketPath !== undefined) return askSocket(this.socketPath, path, options);
    return ask(this.url + path, options);
  }

  async json<T = unknown>(path: string, options: AskOptions = {}): Promise<T> {
    return (await this.ask(path, options)).json<T>();
  }

  /** Workers that serve: neither helpers nor those that are shutting down. */
  workerPids(): number[] {
    return childrenOf(this.masterPid).filter((pid) => ORDINARY_WORKER.test(titleOf(pid)));
  }

  /** The only worker. */
  workerPid(): number {
    const [pid, ...others] = this.workerPids();
    if (pid === undefined || others.length > 0) {
      throw new Error(`expected one worker, there are ${String(this.workerPids().length)}`);
    }
    return pid;
  }

  /** Every process of this nginx that runs, the master included. */
  allPids(): number[] {
    return sessionMembers(this.masterPid);
  }

  errorLog(): string {
    let text = "";
    for (const name of ["error.log", "stderr", "stdout"]) {
      const path = join(this.prefix, "logs", name);
      if (existsSync(path)) text += readFileSync(path, "utf8");
    }
    return text;
  }

  waitForLog(pattern: RegExp, deadlineMs = 10_000): Promise<RegExpExecArray> {
    return until(
      `the error log matches ${String(pattern)}`,
      () => pattern.exec(this.errorLog()),
      deadlineMs,
      () => this.errorLog().slice(-4000),
    );
  }

  signal(signal: NodeJS.Signals): void {
    process.kill(this.masterPid, signal);
  }

  /** HUP. Resolves when all new workers are there, the old ones are gone, and one has answered. */
  async reload(deadlineMs = 20_000): Promise<void> {
    const old = childrenOf(this.masterPid);
    const count = this.workerPids().length;
    this.signal("SIGHUP");
    const log = (): string => this.errorLog().slice(-4000);
    await until(
      "new workers after HUP",
      () => this.workerPids().filter((pid) => !old.includes(pid)).length >= count,
      deadlineMs,
      log,
    );
    await until("old workers gone after HUP", () => !old.some(isAlive), deadlineMs, log);
    const reply = await this.ask("/_up");
    if (reply.status !== 204) throw new Error(`status ${String(reply.status)} after HUP`);
  }

  /** Kills the (only) worker; resolves with the pid of the one that replaces it and answers. */
  async killWorker(signal: NodeJS.Signals = "SIGKILL"): Promise<number> {
    const old = this.workerPid();
    process.kill(old, signal);
    const fresh = await until(
      "another worker in place of the killed one",
      () => this.workerPids().find((pid) => pid !== old),
      10_000,
    );
    await this.#answers();
    return fresh;
  }

  /** Signals the master and waits for its end. */
  end(signal: "SIGQUIT" | "SIGTERM", deadlineMs = STOP_MS): Promise<Exit> {
    if (!this.exit) this.signal(signal);
    return within(`nginx ends after ${signal}`, this.exited, deadlineMs);
  }

  quit(deadlineMs?: number): Promise<Exit> {
    return this.end("SIGQUIT", deadlineMs);
  }

  term(deadlineMs?: number): Promise<Exit> {
    return this.end("SIGTERM", deadlineMs);
  }

  killAll(): void {
    for (const pid of [this.masterPid, ...sessionMembers(this.masterPid)]) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // it has ended
      }
    }
  }

  /**
   * Ends nginx gracefully if it still runs and throws when anything is not as it must be: exit
   * statuses of master and workers, processes or files left behind, lines in the error log.
   */
  async stop(): Promise<void> {
    const problems: string[] = [];
    try {
      await this.quit();
    } catch (error) {
      problems.push(String(error));
      this.killAll();
      await this.exited;
    }
    if (this.exit?.code !== 0) problems.push(`nginx ended with ${JSON.stringify(this.exit)}`);
    problems.push(...(await findLeftovers(this.masterPid, this.prefix)));
    this.killAll();
    const log = this.errorLog();
    problems.push(...unexpectedLines(log, this.#options.allowLog ?? []));
    rmSync(this.prefix, { recursive: true, force: true });
    if (problems.length > 0) {
      throw new Error(
        `nginx did not end cleanly:\n${problems.join("\n")}\n--- log\n${log.slice(-6000)}`,
      );
    }
  }
}

/**
 * Runs `body` with an nginx, then stops and checks it. A failure of the body carries the end of
 * the error log.
 */
export async function withNginx<T>(
  options: NginxOptions,
  body: (nginx: Nginx) => T | Promise<T>,
): Promise<T> {
  const nginx = await Nginx.start(options);
  let result: T;
  try {
    result = await body(nginx);
  } catch (error) {
    const log = nginx.errorLog().slice(-6000);
    const stop = await nginx.stop().then(
      () => "",
      (problem: unknown) => String(problem).split("\n--- log")[0],
    );
    if (error instanceof Error) error.message += `\n${stop ?? ""}\n--- error log\n${log}`;
    throw error;
  }
  await nginx.stop();
  return result;
}
