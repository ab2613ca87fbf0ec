/**
 * `resty-ts dev`: an nginx of the project's own, in the foreground, and another one when resty-ts.json
 * says something else.
 *
 * Thread: the process's main one. Invariant: whichever way it ends, its nginx has ended before, and
 * its folder is gone. There is one nginx at a time: the line that says that another is there is true
 * of the next request, and the inspector's port is free for it.
 */
import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { colours } from "../colour.js";
import { Machine } from "../doctor/machine.js";
import { findNginx } from "../doctor/nginx.js";
import { UsageError, WrongError } from "../exit.js";
import { PACKAGE } from "../package.js";
import { devConfig, type DevPlaces } from "./nginx-config.js";
import { nginxProblem, NginxProcess } from "./nginx-process.js";
import { type ProjectFile, readProjectFile } from "./project-file.js";
import { ProjectWatch, soundProject } from "./project-watch.js";

export interface DevOptions {
  readonly plugins: string;
  /** resty-ts.json. */
  readonly config: string;
  readonly port: number;
  /** nginx; else on the PATH and in the usual folders. */
  readonly nginx: string | undefined;
  /** The inspector's port. */
  readonly inspect: number | undefined;
}

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const print = (line: string): void => void process.stdout.write(`${line}\n`);

/** nginx would try again for seconds, and say so five times. @throws {WrongError} */
async function mustBeFree(port: number): Promise<void> {
  const error = await new Promise<NodeJS.ErrnoException | undefined>((resolve) => {
    const probe = createServer();
    probe.once("error", resolve);
    probe.listen(port, "127.0.0.1", () => probe.close(() => resolve(undefined)));
  });
  if (error === undefined) return;
  const why = error.code === "EADDRINUSE" ? "another program listens there" : error.message;
  throw new WrongError(
    `nothing can be served on 127.0.0.1:${port}, as ${why}: --port names a port`,
  );
}

/** What dev's nginx is started with. @throws {UsageError} {WrongError} */
function findPlaces(options: DevOptions): { program: string; places: Omit<DevPlaces, "prefix"> } {
  const { plugins, port, inspect } = options;
  if (!statSync(plugins, { throwIfNoEntry: false })?.isDirectory()) {
    throw new UsageError(`${plugins} is no folder: --plugins is one`);
  }
  const nginx = findNginx(new Machine("/"), options.nginx);
  if ("check" in nginx) throw new WrongError(`${nginx.text}\ncure: ${nginx.cure ?? ""}`);
  const { program, modules } = nginx;
  return {
    program,
    places: { port, plugins: path.resolve(plugins), root: PACKAGE, modules, inspect },
  };
}

/** Runs until somebody ends it. @throws {UsageError} {WrongError} when it cannot go on. */
export async function dev(options: DevOptions): Promise<void> {
  const project = readProjectFile(options.config);
  const { program, places } = findPlaces(options);
  await mustBeFree(options.port);
  const prefix = mkdtempSync(path.join(tmpdir(), "resty-ts-dev-"));
  const server = new Server(options, program, { ...places, prefix });
  try {
    await server.run(project);
  } finally {
    rmSync(prefix, { recursive: true, force: true });
  }
}

/** What the signals ask for. */
class Stop {
  readonly #stop = new AbortController();
  readonly #onSignal = (): void => this.#stop.abort();
  readonly asked = new Promise<void>((resolve) => {
    this.#stop.signal.addEventListener("abort", () => resolve());
  });

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
  }

  isAsked(): boolean {
    return this.#stop.signal.aborted;
  }

  close(): void {
    for (const signal of SIGNALS) process.off(signal, this.#onSignal);
  }
}

class Server {
  readonly #options: DevOptions;
  readonly #program: string;
  readonly #places: DevPlaces;
  readonly #stop = new Stop();

  constructor(options: DevOptions, program: string, places: DevPlaces) {
    this.#options = options;
    this.#program = program;
    this.#places = places;
  }

  async run(project: ProjectFile): Promise<void> {
    const { config, port } = this.#options;
    const stop = this.#stop;
    const watch = new ProjectWatch(config);
    let nginx: NginxProcess | undefined;
    try {
      const problem = await this.#configure(project);
      if (problem !== undefined) throw new WrongError(`${config}: ${problem}`);
      nginx = await this.#start();
      if (!stop.isAsked()) print(`listening on http://127.0.0.1:${port}; Ctrl-C ends it`);
      while (!stop.isAsked()) {
        const changed = watch.next().then(() => "changed");
        const ended = nginx.exited.then(() => "ended");
        const what = await Promise.race([changed, ended, stop.asked]);
        if (what === "ended" && !stop.isAsked()) throw new WrongError("nginx has ended: see above");
        if (what !== "changed" || !(await this.#takes()) || stop.isAsked()) continue;
        await nginx.stop("SIGQUIT");
        nginx = await this.#start();
        if (!stop.isAsked()) this.#notice(`reloaded: ${config}`);
      }
    } finally {
      watch.close();
      await nginx?.stop("SIGTERM");
      stop.close();
    }
  }

  /** @throws {WrongError} when it does not serve, unless somebody has ended it. */
  async #start(): Promise<NginxProcess> {
    const nginx = new NginxProcess(this.#program, this.#places.prefix, this.#file(), print);
    const why = await Promise.race([nginx.started, this.#stop.asked]);
    if (why === undefined || this.#stop.isAsked()) return nginx;
    await nginx.stop("SIGTERM");
    throw new WrongError(why);
  }

  #file(name = "nginx.conf"): string {
    return path.join(this.#places.prefix, name);
  }

  /** Writes nginx.conf. @returns what nginx has against it: the one before is then left there. */
  async #configure(project: ProjectFile): Promise<string | undefined> {
    const text = devConfig(project, this.#places);
    const trial = this.#file("trial.conf");
    writeFileSync(trial, text);
    const problem = await nginxProblem(this.#program, this.#places.prefix, trial);
    if (problem === undefined) writeFileSync(this.#file(), text);
    return problem;
  }

  /** Looks at a changed resty-ts.json. @returns whether nginx.conf is now what it says. */
  async #takes(): Promise<boolean> {
    const { config, plugins } = this.#options;
    const found = await soundProject(config, plugins);
    let problems: readonly string[];
    if ("routes" in found) {
      const problem = await this.#configure(found);
      problems = problem === undefined ? [] : [`${config}: ${problem}`];
    } else problems = found;
    const { red } = colours(process.stdout);
    for (const problem of problems) print(`${red("error")} ${problem}`);
    if (problems.length > 0) this.#notice(`${config}: what it said before goes on`);
    return problems.length === 0;
  }

  #notice(text: string): void {
    print(`${colours(process.stdout).grey("notice")} ${text}`);
  }
}
