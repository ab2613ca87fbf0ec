/**
 * The module `resty-ts:http` that Lua calls (docs/http-protocol.md): the engine of src/http on the
 * calls of the dispatcher. Its functions' `this` is the Call.
 *
 * Thread: the environment's own.
 */
import { checkCarried } from "../http/carried.js";
import { clientStatus } from "../http/client-error.js";
import { Engine, type LogEntry, type Member } from "../http/engine.js";
import type { Changes } from "../http/changes.js";
import type { ChainDescription } from "../http/chain.js";
import type { Reply } from "../http/questions.js";
import type { Call } from "./call.js";
import { decodeArguments } from "./codec.js";
import type { Channel } from "./channel.js";
import { CODEC } from "./dispatcher.js";
import { decodeRun, encodeChanges } from "./http-codec.js";
import { messageOf, stackOf } from "./describe.js";
import type { Logger } from "./log.js";
import type { Namespace } from "./modules.js";
import type { PluginLoader } from "./plugins.js";
import type { Questions } from "./questions.js";
import { Kind } from "./wire.js";

export const HTTP_MODULE = "resty-ts:http";

type Params<K extends keyof Engine> = Engine[K] extends (...args: infer A) => unknown ? A : never;

/** @param life the environment's number. @param settleMs as EngineOptions has it. */
export function newEngine(
  channel: Channel,
  plugins: PluginLoader,
  logger: Logger,
  questions: Questions,
  life: number,
  settleMs: number,
): Engine {
  return new Engine({
    loadPlugin: (name) => plugins.load(name),
    logFor: (plugin) => logger.child(`[${plugin}] `),
    report(title, error) {
      if (clientStatus(error) === undefined) {
        logger.write("error", `${title} failed: ${stackOf(error)}`);
      } else logger.write("info", `${title}: ${messageOf(error)}`);
    },
    ask: (words) => questions.ask(words),
    checkCarried,
    stackOf,
    settleMs,
    pause: () => channel.turn.pause(),
    logged(done, dropped) {
      // Lua is woken to read it: where nothing else wakes it these would fill the ring.
      channel.send(Kind.logged, dropped, done);
    },
    firstId: life * 0x1_0000_0000,
  });
}

/** Of 32 bits each, little endian. */
function* numbersIn(bytes: Uint8Array): Generator<number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + 4 <= bytes.byteLength; at += 4) yield view.getUint32(at, true);
}

export function httpModule(engine: Engine, questions: Questions): Namespace {
  const run = function (
    this: Call,
    head: string,
    vars: Params<"run">[1],
    ctx: Params<"run">[2],
    chunk: Uint8Array | null,
  ): Changes | Promise<Changes> {
    return engine.run(head, vars, ctx, chunk, this);
  };
  const resume = function (this: Call, id: number, replies: Params<"resume">[1]): Promise<Changes> {
    return engine.resume(id, replies, this);
  };
  return {
    run: Object.assign(run, { [CODEC]: { decode: decodeRun, encode: encodeChanges } }),
    resume: Object.assign(resume, { [CODEC]: { decode: decodeArguments, encode: encodeChanges } }),
    configure: (
      token: number,
      members: readonly Member[],
      replaces?: number | null,
    ): Promise<ChainDescription> => engine.configure(token, members, replaces),
    pull(this: Call, id: number): Promise<Uint8Array | null> {
      return engine.pull(id, this);
    },
    reply: (id: number, replies: readonly Reply[]): Promise<void> => questions.reply(id, replies),
    log: (entries: readonly LogEntry[]): Promise<void> => engine.log(entries),
    ended: (ids: Uint8Array): void => {
      engine.ended(numbersIn(ids));
    },
    release: (tokens: readonly number[]): Promise<void> => engine.release(tokens),
    close: (tokens?: readonly number[] | null): Promise<void> => engine.close(tokens ?? null),
    kept: (): Engine["kept"] => engine.kept,
  };
}
