/**
 * Takes submissions, runs handlers, sends their answers.
 *
 * Thread: the environment's own. Invariant: every CALL is answered by exactly one RESULT or ERROR,
 * also when it was cancelled, its module failed, or its result cannot be carried.
 */
import type { Log } from "../sdk/context.js";
import { errorCodes, type ErrorCode } from "../sdk/error-codes.js";
import { RestyTsError } from "../sdk/errors.js";
import { Call } from "./call.js";
import { type Channel, ProtocolError, type RecordHeader } from "./channel.js";
import { messageOf, stackOf } from "./describe.js";
import { decodeArguments, encode } from "./codec.js";
import type { Logger } from "./log.js";
import { findFunction, type ModuleLoader, type Namespace } from "./modules.js";
import { Kind } from "./wire.js";

/** An imported function: its target once the module is loaded, or why there is none. */
export interface HandlerFunction {
  readonly name: string;
  readonly title: string;
  readonly log: Log;
  readonly ready: Promise<void>;
  /** Whether it is the host's own: what it throws is meant for Lua, code and all. */
  readonly builtIn: boolean;
  target: ((...args: unknown[]) => unknown) | undefined;
  /** The codec, or the function's own. */
  codec: Codec;
  failure: RestyTsError | undefined;
}

/** How a function's arguments and result are read and written. */
export interface Codec {
  /** @returns the arguments. */
  decode(this: void, bytes: Uint8Array, offset: number, length: number): unknown;
  /** @returns a view that the next call overwrites. */
  encode(this: void, value: unknown): Uint8Array;
}

/** On a function of the host's own modules. */
export const CODEC = Symbol("codec");

const VALUES: Codec = { decode: decodeArguments, encode };

/** A module by one of its names. */
interface Module {
  readonly name: string;
  loaded: Promise<Namespace>;
  readonly handlers: HandlerFunction[];
}

/** What a reload sees of it. */
export interface ImportedModule {
  readonly name: string;
  /** @throws {RestyTsError} "function_not_found": a function that works now would not be there. */
  check(namespace: Namespace): void;
  /** Calls that begin from now on are this one's. */
  use(namespace: Namespace): void;
}

/** A message of which not all chunks are here yet. */
interface Partial {
  readonly kind: number;
  readonly a: number;
  readonly b: number;
  /** Bytes of the whole message. */
  readonly total: number;
  /** The pool's; at least `total` long. */
  readonly buffer: Uint8Array;
  filled: number;
}

export interface DispatcherOptions {
  readonly maxMessageBytes: number;
}

const CODE_BY_NUMBER = new Map(
  Object.entries(errorCodes).map(([code, number]) => [number, code as ErrorCode]),
);
/** Of an error's text. */
const MAX_TEXT_BYTES = 16_384;
const SLOT_MASK = 0xffff;
const NOTIFICATION = -1;

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return (
    typeof value === "object" &&
    value !== null &&
    typeof (value as { then?: unknown }).then === "function"
  );
}

/** Has the handler call what the namespace exports by its name, or fail with why it cannot. */
function aim(handler: HandlerFunction, module: string, namespace: Namespace): void {
  try {
    const target = findFunction(namespace, handler.name);
    if (handler.builtIn && CODEC in target) handler.codec = target[CODEC] as Codec;
    handler.target = target;
    handler.failure = undefined;
  } catch (error) {
    const { code, message } = error as RestyTsError;
    handler.target = undefined;
    handler.failure = new RestyTsError(code, `${module}: ${message}`);
  }
}

/** Of the whole system, as Lua has it: rts_now_us. */
function monotonicMs(): number {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + Math.trunc(nanoseconds / 1e6);
}

export class Dispatcher {
  readonly #channel: Channel;
  readonly #loader: ModuleLoader;
  readonly #logger: Logger;
  readonly #options: DispatcherOptions;
  readonly #maxTextBytes: number;
  readonly #modules: (Module | undefined)[] = [];
  readonly #functions: (HandlerFunction | undefined)[] = [];
  /** Calls whose answer comes later, by slot. */
  readonly #pending: (Call | undefined)[] = [];
  readonly #partial = new Map<number, Partial>();
  readonly #utf8 = new TextEncoder();
  readonly #text = new TextDecoder("utf-8", { fatal: true });
  /** Calls whose module is there, and that wait for a later turn of the loop. */
  #putOff = 0;
  /** When this turn began: monotonicMs. */
  #now = 0;
  readonly #handle = (record: RecordHeader): void => {
    this.#take(record);
  };

  constructor(channel: Channel, loader: ModuleLoader, logger: Logger, options: DispatcherOptions) {
    this.#channel = channel;
    this.#loader = loader;
    this.#logger = logger;
    this.#options = options;
    this.#maxTextBytes = Math.min(MAX_TEXT_BYTES, options.maxMessageBytes);
  }

  /** Handles submissions as Channel.drain does, and returns what it does. @throws {ProtocolError} */
  drain(most?: number): number {
    this.#now = monotonicMs();
    return this.#channel.drain(this.#handle, most);
  }

  /** The modules with a file that Lua has named. */
  get modules(): ImportedModule[] {
    return this.#modules
      .filter((module) => module !== undefined && this.#loader.builtIn(module.name) === undefined)
      .map((module) => ({
        name: module!.name,
        check: (namespace) => {
          for (const { name, target } of module!.handlers) {
            if (target !== undefined) findFunction(namespace, name);
          }
        },
        use: (namespace) => {
          module!.loaded = Promise.resolve(namespace);
          for (const handler of module!.handlers) aim(handler, module!.name, namespace);
        },
      }));
  }

  #take(record: RecordHeader): void {
    if (record.more || record.kind === Kind.chunk) {
      this.#gather(record);
      return;
    }
    const { kind, id, a, b, offset, length } = record;
    this.#message(kind, id, a, b, this.#channel.bytes, offset, length);
  }

  #gather(record: RecordHeader): void {
    let partial = this.#partial.get(record.id);
    if (record.kind !== Kind.chunk) {
      const most = this.#options.maxMessageBytes;
      if (partial !== undefined || record.total > most || this.#partial.size > SLOT_MASK) {
        throw new ProtocolError(`a message of ${record.total} bytes for call ${record.id}`);
      }
      partial = {
        kind: record.kind,
        a: record.a,
        b: record.b,
        total: record.total,
        buffer: this.#channel.buffers.take(record.total),
        filled: 0,
      };
      this.#partial.set(record.id, partial);
    }
    if (partial === undefined || partial.filled + record.length > partial.total) {
      throw new ProtocolError(`a chunk of ${record.length} bytes for call ${record.id}`);
    }
    const from = record.offset;
    partial.buffer.set(this.#channel.bytes.subarray(from, from + record.length), partial.filled);
    partial.filled += record.length;
    if (record.more) return;
    this.#partial.delete(record.id);
    if (partial.filled !== partial.total) {
      throw new ProtocolError(`call ${record.id} ends after ${partial.filled} bytes`);
    }
    const { kind, a, b, buffer, total } = partial;
    // Decoding copies what it needs.
    this.#message(kind, record.id, a, b, buffer, 0, total);
    this.#channel.buffers.give(buffer);
  }

  /** One whole message; its payload is in `bytes`, which may be the ring, until this returns. */
  #message(
    kind: number,
    id: number,
    a: number,
    b: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    switch (kind) {
      case Kind.call:
        // Both are of 32 bits: so is what is between them.
        this.#call(this.#functionAt(a), id, (b - this.#now) | 0, bytes, offset, length);
        return;
      case Kind.notify:
        this.#call(this.#functionAt(a), NOTIFICATION, Infinity, bytes, offset, length);
        return;
      case Kind.cancel:
        this.#cancel(id, a);
        return;
      case Kind.module:
        this.#defineModule(a, this.#name(bytes, offset, length));
        return;
      case Kind.function:
        this.#defineFunction(a, b, this.#name(bytes, offset, length));
        return;
      default:
        throw new ProtocolError(`a record of kind ${kind}`);
    }
  }

  #name(bytes: Uint8Array, offset: number, length: number): string {
    try {
      return this.#text.decode(bytes.subarray(offset, offset + length));
    } catch {
      throw new ProtocolError(`a name of ${length} bytes that is not UTF-8`);
    }
  }

  #functionAt(index: number): HandlerFunction {
    const found = this.#functions[index];
    if (found === undefined) throw new ProtocolError(`function ${index} was never defined`);
    return found;
  }

  #defineModule(index: number, name: string): void {
    const loaded = this.#loader.load(name);
    // Each call of each function reports the failure; the log has it once, with its stack.
    loaded.catch((error: unknown) => {
      const cause =
        error instanceof RestyTsError && error.cause !== undefined ? error.cause : error;
      this.#logger.write("error", `module ${name}: ${messageOf(error)}\n${stackOf(cause)}`);
    });
    this.#modules[index] = { name, loaded, handlers: [] };
  }

  #defineFunction(index: number, moduleIndex: number, name: string): void {
    const module = this.#modules[moduleIndex];
    if (module === undefined) throw new ProtocolError(`module ${moduleIndex} was never defined`);
    const title = `${module.name} ${name}`;
    const builtIn = this.#loader.builtIn(module.name);
    const handler: HandlerFunction = {
      name,
      title,
      log: this.#logger.child(`[${title}] `),
      builtIn: builtIn !== undefined,
      target: undefined,
      codec: VALUES,
      failure: undefined,
      ready: module.loaded.then(
        (namespace) => {
          // Unless a reload has given it a newer one.
          if (handler.target === undefined) aim(handler, module.name, namespace);
        },
        (error: unknown) => {
          if (handler.target === undefined) handler.failure = error as RestyTsError;
        },
      ),
    };
    // At once, so that calls of several functions of ours begin in the order in which they came.
    if (builtIn !== undefined) aim(handler, module.name, builtIn);
    module.handlers.push(handler);
    this.#functions[index] = handler;
  }

  #call(
    handler: HandlerFunction,
    id: number,
    left: number,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    const call = new Call(id, handler, this.#channel.turn.began + left);
    // Nobody waits for it: it would only keep those waiting that come after it.
    if (left <= 0) {
      this.#sendError(call, "timeout", `${handler.title} was not begun within its deadline`);
      return;
    }
    // Not before those that came before it.
    if (handler.target !== undefined && this.#putOff === 0) {
      this.#run(call, handler.target, bytes, offset, length);
      return;
    }
    if (handler.failure !== undefined) {
      this.#fail(call, handler.failure);
      return;
    }
    this.#remember(call);
    this.#callLater(call, bytes.slice(offset, offset + length));
  }

  /** Runs a call when its module is there. Lua knows until then that it has not begun. */
  #callLater(call: Call, bytes: Uint8Array): void {
    const { handler, id } = call;
    const { turn } = this.#channel;
    if (id !== NOTIFICATION) this.#channel.send(Kind.wait, id, 1);
    const run = (): void => {
      if (call.settled) return;
      if (this.#channel.waiting > 0) setImmediate(run);
      else if (handler.target === undefined) this.#fail(call, handler.failure);
      else this.#run(call, handler.target, bytes, 0, bytes.length);
    };
    const begin = (): void => {
      if (call.settled) return;
      if (id !== NOTIFICATION) this.#channel.send(Kind.wait, id, 0);
      run();
    };
    void handler.ready.then(() => {
      // All that waited for the module are here at once.
      if (this.#putOff === 0 && !turn.isOver) {
        begin();
        return;
      }
      this.#putOff++;
      turn.putOff(() => {
        this.#putOff--;
        begin();
      });
    });
  }

  #run(
    call: Call,
    target: (...args: unknown[]) => unknown,
    bytes: Uint8Array,
    offset: number,
    length: number,
  ): void {
    let result: unknown;
    try {
      let args: unknown[];
      try {
        args = call.handler.codec.decode(bytes, offset, length) as unknown[];
      } catch (error) {
        throw new RestyTsError("bad_argument", messageOf(error));
      }
      result = target.apply(call, args);
      if (isThenable(result)) {
        this.#remember(call);
        result.then(
          (value) => {
            this.#succeed(call, value);
          },
          (error: unknown) => {
            this.#fail(call, error);
          },
        );
        return;
      }
    } catch (error) {
      this.#fail(call, error);
      return;
    }
    this.#succeed(call, result);
  }

  #remember(call: Call): void {
    if (call.id !== NOTIFICATION) this.#pending[call.id & SLOT_MASK] = call;
  }

  /** False when it was settled before: by a cancel, say. */
  #settle(call: Call): boolean {
    if (call.settled) return false;
    call.settled = true;
    if (call.id === NOTIFICATION) return true;
    const slot = call.id & SLOT_MASK;
    if (this.#pending[slot] === call) this.#pending[slot] = undefined;
    return true;
  }

  #succeed(call: Call, value: unknown): void {
    if (call.id === NOTIFICATION) return;
    let payload: Uint8Array;
    try {
      payload = call.handler.codec.encode(value);
    } catch (error) {
      const text = `${call.handler.title} returned ${messageOf(error)}`;
      this.#fail(call, new RestyTsError("bad_result", text, { cause: error }));
      return;
    }
    if (payload.length > this.#options.maxMessageBytes) {
      const most = this.#options.maxMessageBytes;
      const text = `${call.handler.title} returned ${payload.length} bytes, and max_message_bytes is ${most}`;
      this.#fail(call, new RestyTsError("too_large", text));
      return;
    }
    if (this.#settle(call)) this.#channel.send(Kind.result, call.id, 0, payload);
  }

  #fail(call: Call, error: unknown): void {
    if (!this.#settle(call)) return;
    const ours =
      error instanceof RestyTsError && (error === call.handler.failure || call.handler.builtIn);
    const refused =
      error instanceof RestyTsError && /^(bad_|too_large)/.test(error.code) ? error : undefined;
    if (!ours) this.#logFailure(call, error);
    if (call.id === NOTIFICATION) {
      if (ours) this.#logFailure(call, error);
      return;
    }
    this.#sendError(
      call,
      ours ? error.code : (refused?.code ?? "handler_failed"),
      messageOf(error),
    );
  }

  #sendError({ id }: Call, code: ErrorCode, text: string): void {
    const bytes = this.#utf8.encode(text).subarray(0, this.#maxTextBytes);
    this.#channel.send(Kind.error, id, errorCodes[code], bytes);
  }

  #logFailure(call: Call, error: unknown): void {
    this.#logger.write("error", `${call.handler.title} failed: ${stackOf(error)}`);
  }

  #cancel(id: number, codeNumber: number): void {
    const partial = this.#partial.get(id);
    if (partial !== undefined) {
      // Given up while it was still being sent.
      this.#partial.delete(id);
      this.#channel.buffers.give(partial.buffer);
      this.#channel.send(Kind.error, id, errorCodes.aborted);
      return;
    }
    const call = this.#pending[id & SLOT_MASK];
    // Not there: its answer is in the ring already, and does for the cancel, too.
    if (call === undefined || call.id !== id || !this.#settle(call)) return;
    const code = CODE_BY_NUMBER.get(codeNumber) ?? "aborted";
    this.#channel.send(Kind.error, id, errorCodes.aborted);
    call.abort(
      new RestyTsError(
        code,
        code === "timeout"
          ? `${call.handler.title} did not answer within its deadline`
          : `nobody waits for ${call.handler.title} any more`,
      ),
    );
  }
}
