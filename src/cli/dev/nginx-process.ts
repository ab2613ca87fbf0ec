/**
 * The nginx of `resty-ts dev` as a process: what it says goes to the terminal, line by line.
 *
 * Thread: the process's main one. Invariant: once `exited` has resolved, its workers have ended too, and
 * all that they said has been printed.
 */
import { type ChildProcess, execFile, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { Readable } from "node:stream";
import { colours } from "../colour.js";
import type { DevEvent } from "./nginx-config.js";
import { ErrorLog, shownEvent } from "./output.js";

/** For nginx to end by itself. */
const MOST_END_MS = 5000;

const argumentsFor = (prefix: string, file: string): string[] => [
  ...["-p", prefix, "-c", file, "-e", "stderr"],
];

/** @returns what nginx has against a configuration; undefined: nothing. */
export function nginxProblem(
  program: string,
  prefix: string,
  file: string,
): Promise<string | undefined> {
  const args = ["-t", "-q", ...argumentsFor(prefix, file)];
  return new Promise((resolve) => {
    execFile(program, args, (error, _stdout, stderr) => {
      if (error === null) return resolve(undefined);
      const [, text = error.message] = /\[emerg\] (?:[\d#]+: )?(.*)$/m.exec(stderr) ?? [];
      // Where it stands in a file that nobody has written says nothing.
      resolve(text.replace(/ in \/\S+:\d+$/, ""));
    });
  });
}

function linesOf(stream: Readable, take: (line: string) => void): Promise<void> {
  const lines = createInterface({ input: stream });
  lines.on("line", take);
  return new Promise((resolve) => lines.once("close", resolve));
}

export class NginxProcess {
  /** Resolves when it serves, with undefined; or with why it does not. */
  readonly started: Promise<string | undefined>;
  readonly exited: Promise<void>;
  readonly #child: ChildProcess;
  #isOver = false;

  /** @param print takes lines for people. */
  constructor(program: string, prefix: string, file: string, print: (line: string) => void) {
    const child = spawn(program, argumentsFor(prefix, file), {
      stdio: ["ignore", "pipe", "pipe"],
      // A terminal's Ctrl-C is for us: nginx is then told once.
      detached: true,
    });
    this.#child = child;
    const paint = colours(process.stdout);
    const log = new ErrorLog();
    const show = (line: string | undefined): void => {
      if (line !== undefined) print(line);
    };
    const gone = new Promise<string | undefined>((resolve) => {
      child.once("error", ({ message }) => resolve(`nginx does not run: ${message}`));
      child.once("exit", () => resolve("nginx has ended: see above"));
    });
    let tell: (why: string | undefined) => void = () => undefined;
    this.started = new Promise((resolve) => (tell = resolve));
    const take = (line: string): void => {
      const event = JSON.parse(line) as DevEvent;
      if (event.event === "request") show(shownEvent(event, paint));
      else tell(event.event === "failed" ? event.why : undefined);
    };
    const outputs = [
      linesOf(child.stdout, take),
      linesOf(child.stderr, (line) => show(log.shown(line, paint))),
    ];
    this.exited = gone.then(async (why) => {
      // The workers have these, too.
      await Promise.all(outputs);
      this.#isOver = true;
      tell(why);
    });
  }

  /** @param signal QUIT lets requests come to their end, TERM does not. */
  async stop(signal: "SIGQUIT" | "SIGTERM"): Promise<void> {
    if (this.#isOver) return;
    this.#child.kill(signal);
    // All of its group: a master that is killed does not end its workers.
    const late = setTimeout(() => process.kill(-this.#child.pid!, "SIGKILL"), MOST_END_MS);
    await this.exited;
    clearTimeout(late);
  }
}
