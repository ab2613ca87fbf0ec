/**
 * Log lines travel to Lua, which writes them to nginx's error log with the level they came with.
 *
 * Thread: the environment's own. Invariant: a flood of lines holds up neither answers nor memory:
 * past a bound lines are counted instead of sent, and Lua is told how many.
 */
import { Console } from "node:console";
import { Writable } from "node:stream";
import { format } from "node:util";
import type { Log } from "../sdk/context.js";
import type { Channel } from "./channel.js";
import { Kind, LogLevel, type LogLevelName } from "./wire.js";

const MAX_WAITING = 1000;
/** nginx cuts its lines at 2,048 bytes, so there is no use in sending much more. */
const MAX_LINE_BYTES = 16_384;
const TELL_MS = 100;

export class Logger {
  readonly #channel: Channel;
  readonly #maxLineBytes: number;
  readonly #utf8 = new TextEncoder();
  #dropped = 0;

  constructor(channel: Channel, maxMessageBytes: number) {
    this.#channel = channel;
    this.#maxLineBytes = Math.min(MAX_LINE_BYTES, maxMessageBytes);
  }

  write(level: LogLevelName, text: string): void {
    if (this.#channel.waiting <= MAX_WAITING) this.#send(level, text);
    else if (this.#dropped++ === 0) this.#tellLater();
  }

  #send(level: LogLevelName, text: string, dropped = 0): void {
    const line = this.#utf8.encode(text).subarray(0, this.#maxLineBytes);
    this.#channel.send(Kind.log, dropped, LogLevel[level], line);
  }

  #tellLater(): void {
    setTimeout(() => {
      const count = this.#dropped;
      if (this.#channel.waiting > MAX_WAITING) {
        this.#tellLater();
        return;
      }
      this.#dropped = 0;
      this.#send("warn", `${count} log lines were dropped: Lua did not read them in time`, count);
    }, TELL_MS).unref();
  }

  /** A Log whose lines begin with `prefix`. */
  child(prefix: string): Log {
    const at =
      (level: LogLevelName) =>
      (...args: unknown[]): void => {
        this.write(level, `${prefix}${format(...args)}`);
      };
    return {
      error: at("error"),
      warn: at("warn"),
      notice: at("notice"),
      info: at("info"),
      debug: at("debug"),
    };
  }

  /** Makes the environment's console write here; the process's stdout and stderr stay nginx's. */
  captureConsole(target: Console = console): void {
    const stream = (level: LogLevelName): Writable =>
      new Writable({
        decodeStrings: false,
        write: (chunk, _encoding, done) => {
          this.write(level, String(chunk).replace(/\n$/, ""));
          done();
        },
      });
    const ours = new Console({ stdout: stream("notice"), stderr: stream("error") });
    const log = this.child("");
    const { info, debug, warn } = log;
    for (const [name, method] of Object.entries({ ...ours, info, debug, warn })) {
      if (typeof method === "function") Object.assign(target, { [name]: method as unknown });
    }
  }
}
