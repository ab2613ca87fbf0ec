/** The LuaJIT process that has Lua's decoders: inputs go in, a line for each comes out. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { join } from "node:path";
import { PROJECT_ROOT } from "../support/project.ts";

/** An input that takes longer hangs. */
const HANGS_MS = 30_000;

export class LuaChild {
  readonly #child: ChildProcess;
  #answers: string[] = [];
  #wake: () => void = () => undefined;
  #ended: string | undefined;

  constructor() {
    const script = join(PROJECT_ROOT, "test/fuzz/child.lua");
    this.#child = spawn("luajit", [script], { stdio: ["pipe", "pipe", "inherit"] });
    createInterface({ input: this.#child.stdout! }).on("line", (line) => {
      this.#answers.push(line);
      this.#wake();
    });
    this.#child.stdin!.on("error", () => undefined); // it has ended: `close` says how
    this.#child.on("error", (error) => this.#end(error.message));
    this.#child.on("close", (code, signal) => this.#end(signal ?? `exit status ${code}`));
  }

  #end(how: string): void {
    this.#ended ??= `LuaJIT has ended: ${how}`;
    this.#wake();
  }

  /** An answer for each input; the last one says so when the process has ended or hangs. */
  async run(inputs: readonly Buffer[]): Promise<string[]> {
    this.#answers = [];
    const heads = inputs.map((input) => {
      const head = Buffer.alloc(4);
      head.writeUInt32LE(input.length);
      return head;
    });
    this.#child.stdin!.write(Buffer.concat(inputs.flatMap((input, i) => [heads[i]!, input])));
    const timer = setTimeout(() => {
      this.#end("it hangs");
      this.#child.kill("SIGKILL");
    }, HANGS_MS);
    while (this.#answers.length < inputs.length && this.#ended === undefined) {
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    clearTimeout(timer);
    if (this.#answers.length < inputs.length) this.#answers.push(this.#ended!);
    return this.#answers;
  }

  close(): void {
    this.#child.stdin!.end();
  }
}
