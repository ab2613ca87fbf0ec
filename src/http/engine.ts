/**
 * The functions of docs/http-protocol.md: chains by their tokens, what is kept for requests, streams.
 * The host gives it calls from nginx, resty-ts/testing those of a unit test.
 *
 * Thread: the environment's own. Invariant: what is kept for a request goes with `ended`, what is
 * kept for a token with `release`.
 */
import { RestyTsError } from "../sdk/errors.js";
import type { Log } from "../sdk/context.js";
import type { Plugin, SetupContext } from "../sdk/plugin.js";
import { Chain, type ChainOptions, type PhaseDescription, type PluginInstance } from "./chain.js";
import type { Changes } from "./changes.js";
import { checkConfig } from "./config.js";
import { Head, HeadFlag, PhaseNumber } from "./head.js";
import type { BodyRest } from "./response.js";
import { Run, type RequestState, type RunInput, type Services } from "./run.js";
import { SharedDictImpl } from "./shared.js";
import { Streams } from "./streams.js";

/** `{ name, conf, options }` of configure. */
export type Member = readonly [name: string, conf: unknown, options?: ChainOptions | null];

/** Whoever waits for an answer, and may go away. */
export interface Caller {
  readonly deadline: number;
  onAbort: ((reason: RestyTsError) => void) | undefined;
}

export interface EngineOptions {
  /** @throws {RestyTsError} module_not_found, module_failed, bad_plugin. */
  loadPlugin(name: string): Promise<Plugin>;
  logFor(plugin: string): Log;
  /** Logs a failure that nobody waits for. */
  report(title: string, error: unknown): void;
  ask: Services["ask"];
  checkCarried: Services["checkCarried"];
  stackOf: Services["stackOf"];
  /** All ids of runs and streams are larger: one that another engine gave is not known here. */
  readonly firstId?: number;
}

export type LogEntry = readonly [
  head: Uint8Array,
  vars: readonly unknown[] | null,
  ctx: Record<string, unknown> | null,
];

interface Configured {
  readonly chain: Chain;
  readonly phases: Record<string, PhaseDescription>;
}

export class Engine implements Services {
  readonly #options: EngineOptions;
  readonly #chains = new Map<number, Promise<Configured>>();
  /** Those that are ready, without a promise on the way of each request. */
  readonly #ready = new Map<number, Chain>();
  readonly #requests = new Map<number, RequestState>();
  readonly #parked = new Map<number, Run>();
  readonly #streams: Streams;
  readonly #background = new Set<Promise<unknown>>();
  #lastRun: number;

  readonly ask: Services["ask"];
  readonly checkCarried: Services["checkCarried"];
  readonly stackOf: Services["stackOf"];
  readonly report: Services["report"];

  constructor(options: EngineOptions) {
    this.#options = options;
    this.#lastRun = options.firstId ?? 0;
    this.#streams = new Streams(this.#lastRun);
    this.ask = (words) => options.ask(words);
    this.checkCarried = (value, path) => options.checkCarried(value, path);
    this.stackOf = (error) => options.stackOf(error);
    this.report = (title, error) => options.report(title, error);
  }

  // Functions of the protocol -----------------------------------------------------------------

  /** @throws {RestyTsError} bad_config, bad_plugin, module_not_found, module_failed; what setup throws. */
  async configure(
    token: number,
    members: readonly Member[],
  ): Promise<Record<string, PhaseDescription>> {
    let configured = this.#chains.get(token);
    if (configured === undefined) {
      configured = this.#configure(members);
      this.#chains.set(token, configured);
      configured.then(
        ({ chain }) => {
          // Unless it was released meanwhile.
          if (this.#chains.get(token) === configured) this.#ready.set(token, chain);
        },
        () => this.#chains.delete(token),
      );
    }
    return (await configured).phases;
  }

  /** @throws {RestyTsError} "bad_argument": Lua's and our idea of the request differ. */
  run(
    headBytes: string | Uint8Array,
    vars: RunInput["vars"],
    ctx: RunInput["ctx"],
    chunk: Uint8Array | null,
    caller: Caller,
  ): Changes | Promise<Changes> {
    const head = new Head(headBytes);
    const input: RunInput = { vars, ctx, chunk, deadline: caller.deadline };
    if ((head.flags & HeadFlag.continues) !== 0) return this.#continue(head, input);
    const chain = this.#ready.get(head.token);
    if (chain !== undefined) return this.#start(chain, head, input, caller);
    // One that was queued when its environment ended may come before its chain is ready here.
    const configured = this.#chains.get(head.token);
    if (configured === undefined) {
      throw new RestyTsError("bad_argument", `configuration ${head.token} is not known`);
    }
    return configured.then((value) => this.#start(value.chain, head, input, caller));
  }

  #start(chain: Chain, head: Head, input: RunInput, caller: Caller): Changes | Promise<Changes> {
    const run = new Run(chain, head, input, this);
    const changes = run.start();
    if (changes instanceof Promise) {
      caller.onAbort = (reason) => {
        run.abort(reason);
      };
    }
    return changes;
  }

  resume(id: number, replies: readonly (readonly unknown[])[], caller: Caller): Promise<Changes> {
    const run = this.#parked.get(id);
    if (run === undefined) {
      throw new RestyTsError("aborted", `run ${id} was given up: its deadline has passed`);
    }
    caller.onAbort = (reason) => {
      run.abort(reason);
    };
    return run.resume(replies);
  }

  pull(id: number, caller: Caller): Promise<Uint8Array | null> {
    caller.onAbort = (reason) => {
      this.#streams.cancel(id, reason);
    };
    return this.#streams.pull(id);
  }

  /** Runs log handlers; each failure is logged, none is anybody's. */
  async log(entries: readonly LogEntry[]): Promise<void> {
    await Promise.all(
      entries.map(async ([headBytes, vars, ctx]) => {
        const head = new Head(headBytes);
        const chain = this.#ready.get(head.token);
        if (chain === undefined) return;
        const run = new Run(chain, head, { vars, ctx, chunk: null, deadline: Infinity }, this);
        await run.start();
      }),
    );
  }

  ended(requestIds: readonly number[]): void {
    const reason = new RestyTsError("aborted", "the request has ended");
    for (const id of requestIds) {
      this.#requests.delete(id);
      this.#streams.cancelOf(id, reason);
      for (const run of this.#parked.values()) {
        if (run.head.requestId === id) run.abort(reason);
      }
    }
  }

  async release(tokens: readonly number[]): Promise<void> {
    await Promise.all(tokens.map((token) => this.#release(token)));
  }

  /** Releases all chains, or these, and waits for what goes on in the background. */
  async close(tokens: readonly number[] | null): Promise<void> {
    while (this.#background.size > 0) await Promise.allSettled(this.#background);
    await this.release(tokens ?? [...this.#chains.keys()]);
    while (this.#background.size > 0) await Promise.allSettled(this.#background);
  }

  /** What is kept, for tests and counters. */
  get kept(): Readonly<Record<"chains" | "requests" | "runs" | "streams" | "background", number>> {
    return {
      chains: this.#chains.size,
      requests: this.#requests.size,
      runs: this.#parked.size,
      streams: this.#streams.size,
      background: this.#background.size,
    };
  }

  // Services for runs -------------------------------------------------------------------------

  track(work: Promise<unknown>, title: string): void {
    const tracked = Promise.resolve(work)
      .catch((error: unknown) => {
        this.report(`${title}, in waitUntil`, error);
      })
      .finally(() => this.#background.delete(tracked));
    this.#background.add(tracked);
  }

  park(run: Run): number {
    if (run.id === 0) {
      this.#parked.set(++this.#lastRun, run);
      return this.#lastRun;
    }
    return run.id;
  }

  unpark(run: Run): void {
    if (run.id !== 0) this.#parked.delete(run.id);
  }

  openStream(run: Run, rest: BodyRest): number {
    return this.#streams.open(run, rest);
  }

  stateOf(requestId: number): { state: RequestState; created: boolean } {
    const known = this.#requests.get(requestId);
    if (known !== undefined) return { state: known, created: false };
    const state: RequestState = { local: new Map(), bodyRun: undefined };
    this.#requests.set(requestId, state);
    return { state, created: true };
  }

  // -------------------------------------------------------------------------------------------

  async #configure(members: readonly Member[]): Promise<Configured> {
    const made: { instance: PluginInstance; options: ChainOptions; priority: number }[] = [];
    try {
      for (const [name, given, chainOptions] of members) {
        const plugin = await this.#options.loadPlugin(name);
        const conf = await checkConfig(plugin, given);
        const log = this.#options.logFor(name);
        const state = await this.#setup(plugin, conf, log);
        const options = chainOptions ?? {};
        made.push({
          instance: { plugin, name, conf, log, state },
          options,
          priority: options.priority ?? plugin.priority ?? 0,
        });
      }
    } catch (error) {
      await this.#teardown(made.map(({ instance }) => instance));
      throw error;
    }
    // A stable sort: as listed among equals.
    const chain = new Chain(made.sort((a, b) => b.priority - a.priority));
    return { chain, phases: chain.describe() };
  }

  async #setup(plugin: Plugin, conf: unknown, log: Log): Promise<unknown> {
    try {
      return (await plugin.setup?.(conf, this.#setupContext(log))) as unknown;
    } catch (error) {
      this.report(`${plugin.name} setup`, error);
      const what = error instanceof Error ? error.message : String(error);
      throw new RestyTsError("handler_failed", `${plugin.name}: setup failed: ${what}`, {
        cause: error,
      });
    }
  }

  #setupContext(log: Log): SetupContext {
    return {
      log,
      shared: (name) => new SharedDictImpl((...words) => this.ask(words), name),
    };
  }

  async #release(token: number): Promise<void> {
    const configured = this.#chains.get(token);
    this.#chains.delete(token);
    this.#ready.delete(token);
    if (configured === undefined) return;
    const chain = await configured.then(
      (value) => value.chain,
      () => undefined, // whoever configured it was told
    );
    if (chain !== undefined) await this.#teardown(chain.instances);
  }

  async #teardown(instances: readonly PluginInstance[]): Promise<void> {
    for (const instance of instances) {
      try {
        await instance.plugin.teardown?.(instance, this.#setupContext(instance.log));
      } catch (error) {
        this.report(`${instance.name} teardown`, error);
      }
    }
  }

  #continue(head: Head, input: RunInput): Changes | Promise<Changes> {
    const state = this.#requests.get(head.requestId);
    const run = state?.bodyRun;
    if (run === undefined || head.phase !== PhaseNumber.bodyFilter) return null;
    if ((head.flags & HeadFlag.last) !== 0) state!.bodyRun = undefined;
    return run.next(head.flags, input);
  }
}
