/**
 * testPlugin and testChain: plugins run by the engine that runs them in nginx, with the kit in the
 * place of nginx and Lua.
 *
 * Invariant: no timer, file or promise of the kit's is left when close() has resolved.
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { format, inspect } from "node:util";
import { checkCarried } from "../http/carried.js";
import type { ChainDescription } from "../http/chain.js";
import { clientStatus } from "../http/client-error.js";
import { knowBodies } from "../http/codings.js";
import { checkDefinition } from "../http/definition.js";
import { Engine, type Member as EngineMember } from "../http/engine.js";
import type { Log } from "../sdk/context.js";
import { RestyTsError } from "../sdk/errors.js";
import type { ConfigOf, Phase, Plugin, PluginDefinition } from "../sdk/plugin.js";
import { Calls, messageOf } from "./calls.js";
import { type Clock, Dict } from "./dict.js";
import { Exchange } from "./exchange.js";
import { Pipe } from "./pipe.js";
import { RequestState } from "./request-state.js";
import { answerShared } from "./questions.js";
import type {
  Failure,
  KitOptions,
  LogLine,
  Member,
  OpenResponse,
  PartialConfig,
  TestDict,
  TestKit,
  TestRequest,
  TestResult,
} from "./types.js";

const TOKEN = 1;
const DEFAULT_TIMEOUT_MS = 5000;
const DEFAULT_BODY_BUFFER = 16_384;

// eslint-disable-next-line @typescript-eslint/no-explicit-any -- each has types of its own
type AnyMember = Member<any, any>;

/** Of one request, for what its handlers log, also later. */
interface Notes {
  readonly log: LogLine[];
  readonly errors: Failure[];
}

/** One for all kits: what each has costs every promise of the process, also after the kit's end. */
const requestNotes = new AsyncLocalStorage<Notes>();

interface Begun {
  readonly exchange: Exchange;
  readonly result: Promise<TestResult>;
  /** Resolves when the response's header is sent, or will not be. */
  readonly header: Promise<void>;
}

function stackOf(error: unknown): string {
  return error instanceof Error && typeof error.stack === "string" ? error.stack : inspect(error);
}

class Kit implements TestKit {
  readonly log: LogLine[] = [];
  readonly errors: Failure[] = [];
  readonly #options: KitOptions;
  readonly #engine: Engine;
  readonly #clock: Clock = { nowMs: 0 };
  readonly #dicts: ReadonlyMap<string, Dict>;
  readonly #plugins: ReadonlyMap<string, Plugin>;
  readonly #running = new Set<Promise<unknown>>();
  #description: ChainDescription = { phases: {}, fields: null };
  #requests = 0;

  constructor(members: readonly AnyMember[], options: KitOptions) {
    knowBodies(Response.prototype);
    this.#options = options;
    this.#dicts = new Map((options.shared ?? []).map((name) => [name, new Dict(this.#clock)]));
    this.#plugins = pluginsByName(members);
    this.#engine = new Engine({
      // eslint-disable-next-line @typescript-eslint/require-await -- what it throws is to reject
      loadPlugin: async (name) => checkDefinition(this.#plugins.get(name), name),
      logFor: (plugin) => this.#logFor(plugin),
      report: (title, error) => {
        const [plugin = title, ...rest] = title.split(" ");
        const phase = rest.join(" ");
        if (clientStatus(error) === undefined) {
          this.#fail({ plugin, phase, status: 0, text: stackOf(error) });
        } else this.#logFor(plugin).info(`${phase}: ${messageOf(error)}`);
      },
      ask: ([, ...words]) => this.#ask(words),
      checkCarried,
      stackOf,
    });
  }

  async start(members: readonly AnyMember[]): Promise<void> {
    const { metadata = {} } = this.#options;
    this.#description = await this.#engine.configure(
      TOKEN,
      members.map((member) => memberForEngine(member, metadata[member.plugin.name])),
    );
  }

  async request(request: TestRequest = {}): Promise<TestResult> {
    return (await this.#begin(request, new Pipe(true))).result;
  }

  async open(request: TestRequest = {}): Promise<OpenResponse> {
    const pipe = new Pipe(false);
    const { exchange, result, header } = await this.#begin(request, pipe);
    result.catch(() => undefined); // whoever awaits it is told
    await header;
    return { status: exchange.status, headers: exchange.fields(), pieces: pipe.read(), result };
  }

  shared(name: string): TestDict {
    const dict = this.#dicts.get(name);
    if (dict === undefined) {
      throw new Error(`there is no shared dictionary ${name}: the kit's option shared names them`);
    }
    return dict;
  }

  advance(seconds: number): void {
    this.#clock.nowMs += seconds * 1000;
  }

  settled(): Promise<void> {
    return this.#engine.close([]);
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.#running);
    await this.#engine.close(null);
  }

  /** Begins a request, which close() waits for. */
  #begin(request: TestRequest, pipe: Pipe): Promise<Begun> {
    const begun = this.#exchange(request, pipe);
    const running = begun
      .then(({ result }) => result)
      .catch(() => undefined) // whoever made the request is told
      .finally(() => this.#running.delete(running));
    this.#running.add(running);
    return begun;
  }

  async #exchange(request: TestRequest, pipe: Pipe): Promise<Begun> {
    const options = this.#options;
    const vars = { ...options.vars, ...request.vars };
    const state = await RequestState.make(
      ++this.#requests,
      request,
      vars,
      options.clientBodyBufferSize ?? DEFAULT_BODY_BUFFER,
      options.consumers !== undefined,
    );
    const notes: Notes = { log: [], errors: [] };
    const calls = new Calls(this.#engine);
    let onHeader = (): void => undefined;
    const header = new Promise<void>((resolve) => (onHeader = resolve));
    const { overload = false, signal } = request;
    const exchange = new Exchange(
      {
        calls,
        state,
        token: TOKEN,
        ...this.#description,
        timeoutMs: options.timeoutMs ?? DEFAULT_TIMEOUT_MS,
        defaultType: options.defaultType ?? "text/plain",
        dicts: this.#dicts,
        upstream: request.upstream ?? options.upstream,
        locations: { ...options.locations, ...request.locations },
        consumers: options.consumers,
        plugins: [...this.#plugins.keys()],
        overload: (phase: Phase) =>
          typeof overload === "boolean" ? overload : overload.includes(phase),
        pipe,
        onHeader,
        log: notes.log,
        errors: notes.errors,
        fail: (failure) => {
          this.#fail(failure);
        },
        info: (plugin, text) => {
          this.#logFor(plugin).info(text);
        },
      },
      vars,
    );
    const leave = (): void => {
      calls.leave();
    };
    pipe.onLeave = leave;
    if (signal?.aborted === true) leave();
    signal?.addEventListener("abort", leave, { once: true });
    const result = requestNotes
      .run(notes, () => exchange.play())
      .finally(() => signal?.removeEventListener("abort", leave));
    return { exchange, result, header };
  }

  /** A question to a shared dictionary outside of a phase. */
  // eslint-disable-next-line @typescript-eslint/require-await -- what it throws is to reject
  async #ask(words: readonly unknown[]): Promise<unknown[]> {
    try {
      return answerShared({ dicts: this.#dicts }, words);
    } catch (error) {
      throw new RestyTsError("handler_failed", messageOf(error));
    }
  }

  #fail(failure: Failure): void {
    this.errors.push(failure);
    requestNotes.getStore()?.errors.push(failure);
  }

  #logFor(plugin: string): Log {
    const at =
      (level: LogLine["level"]) =>
      (...args: unknown[]): void => {
        const line: LogLine = { level, plugin, text: format(...args) };
        this.log.push(line);
        requestNotes.getStore()?.log.push(line);
      };
    return {
      error: at("error"),
      warn: at("warn"),
      notice: at("notice"),
      info: at("info"),
      debug: at("debug"),
    };
  }
}

/** In nginx a name is a file: there cannot be two. */
function pluginsByName(members: readonly AnyMember[]): ReadonlyMap<string, Plugin> {
  const plugins = new Map<string, Plugin>();
  for (const { plugin } of members) {
    if ((plugins.get(plugin.name) ?? plugin) !== plugin) {
      throw new TypeError(`two plugins of the chain are named ${plugin.name}: name one otherwise`);
    }
    plugins.set(plugin.name, plugin as Plugin);
  }
  return plugins;
}

function memberForEngine({ plugin, conf, options }: AnyMember, metadata: unknown): EngineMember {
  const { onError, onTimeout, onOverload, timeoutMs, priority } = options ?? {};
  const chainOptions = {
    on_error: onError,
    on_timeout: onTimeout,
    on_overload: onOverload,
    timeout_ms: timeoutMs,
    priority,
    metadata,
  };
  const given = Object.entries(chainOptions).filter(([, value]) => value !== undefined);
  return [plugin.name, conf ?? null, Object.fromEntries(given)];
}

/**
 * A kit for a chain of plugins, in order of priority, the highest first, then as listed.
 *
 * @throws {RestyTsError} "bad_plugin", "bad_config"; what a setup throws.
 */
export async function testChain(
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- each has types of its own
  members: readonly Member<any, any>[],
  options: KitOptions = {},
): Promise<TestKit> {
  const kit = new Kit(members, options);
  await kit.start(members);
  return kit;
}

/**
 * A kit for one plugin with one configuration, which is checked against its schema.
 *
 * @throws as testChain.
 */
export function testPlugin<S, State>(
  plugin: PluginDefinition<S, State>,
  conf?: PartialConfig<ConfigOf<S>>,
  options: KitOptions = {},
): Promise<TestKit> {
  const member = conf === undefined ? { plugin } : { plugin, conf };
  return testChain([member], options);
}
