/**
 * Who reads docs/quick-start.md and does what it says, on this machine or in another root file
 * system: two terminals, in which its commands run, and an editor, which writes its files.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { existsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { until, within } from "../../support/deadline.js";
import type { Block } from "./markdown.js";

export interface ReadersMachine {
  /** The reader's home, as it is seen from here. */
  readonly home: string;
  /** Starts a shell that runs these commands in a folder below the home. */
  start(commands: string, folder: string): ChildProcess;
  /** What Ctrl-C does in the terminal of a shell. */
  interrupt(shell: ChildProcess): void;
}

/** For a broken run; npm alone takes its time. */
const COMMAND_MS = 180_000;
const PROJECT = "gateway";

/** A shell with the commands of one block, and what it has printed. */
class Terminal {
  readonly exited: Promise<number | null>;
  printed = "";
  readonly #child: ChildProcess;

  constructor(child: ChildProcess) {
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on("data", (data: Buffer) => (this.printed += data.toString()));
    }
    this.exited = new Promise((resolve, reject) => {
      child.once("error", reject);
      child.once("close", resolve);
    });
  }

  get child(): ChildProcess {
    return this.#child;
  }

  async says(text: string): Promise<void> {
    const probe = (): boolean => {
      if (this.printed.includes(text)) return true;
      const { exitCode, signalCode } = this.#child;
      if (exitCode === null && signalCode === null) return false;
      throw new Error(
        `it ended with ${exitCode ?? signalCode}, and did not say ${text}: ${this.printed}`,
      );
    };
    await until(`the terminal says ${text}`, probe, COMMAND_MS, () => this.printed);
  }
}

export class Reader {
  readonly #machine: ReadersMachine;
  readonly #adapted: (text: string) => string;
  #server: Terminal | undefined;
  #last: Terminal | undefined;

  /** @param adapted what the page says, as it is here: its port is another. */
  constructor(machine: ReadersMachine, adapted: (text: string) => string) {
    this.#machine = machine;
    this.#adapted = adapted;
  }

  /** Does what a block says, or sees that what was done last has printed it. */
  async follow({ language, title, text }: Block): Promise<void> {
    if (title !== undefined) {
      writeFileSync(join(this.#machine.home, PROJECT, title), text);
      this.#last = this.#server;
    } else if (language === "sh") await this.#type(this.#adapted(text));
    else {
      assert.equal(language, "text", "a block is a file, commands, or what they print");
      await this.#last?.says(this.#adapted(text).trim());
    }
  }

  /** Ctrl-C, where something still runs. */
  async close(): Promise<void> {
    const server = this.#server;
    if (server === undefined) return;
    this.#server = undefined;
    this.#machine.interrupt(server.child);
    await within("Ctrl-C ends it", server.exited, COMMAND_MS);
  }

  async #type(commands: string): Promise<void> {
    const folder = existsSync(join(this.#machine.home, PROJECT)) ? PROJECT : "";
    const terminal = new Terminal(this.#machine.start(commands, folder));
    this.#last = terminal;
    if (commands.includes("resty-ts dev")) {
      this.#server = terminal;
      return;
    }
    const code = await within(commands, terminal.exited, COMMAND_MS);
    assert.equal(code, 0, terminal.printed);
  }
}
