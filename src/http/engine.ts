/**
 * The functions of docs/http-protocol.md: chains by their tokens, what is kept for requests, streams.
 * The host gives it calls from nginx, resty-ts/testing those of a unit test.
 *
 * Thread: the environment's own. Invariant: what is kept for a request goes with `ended`, what is
 * kept for a token with `release`.
 */
import { RestyTsError } from "../sdk/errors.js";
import type { Log } from "../sdk/context.js";
import type { Plugin } from "../sdk/plugin.js";
import {
  Chain,
  type ChainDescription,
  type ChainMember,
  type ChainOptions,
  type PluginInstance,
} from "./chain.js";
import type { Changes } from "./changes.js";
import { Head, HeadFlag } from "./head.js";
import { Instances } from "./instances.js";
import { type LogEntry, LogRuns } from "./log-runs.js";
import { isBodyPhase } from "./phases.js";
import type { BodyRest } from "./response.js";
import { renewMembers } from "./renewal.js";
import type { Replies } from "./questions.js";
import { Requests, type RequestState } from "./requests.js";
import { Run } from "./run.js";
import { bodyRunKey, type RunInput, type Services } from "./services.js";
import { SETTLE_MS } from "./settle.js";
import { Streams } from "./streams.js";

/** `{ name, conf, options }` of configure. */
export type Member = readonly [name: string, conf: unknown, options?: ChainOptions | null];

/** Whoever waits for an answer, and may go away. */
export interface Caller {
  readonly deadline: number;
  onAbort: ((reason: RestyTsError) => void) | undefined;
}

/**
 * A handler is ended at the phase's deadline, by its own policy; whoever called waits so much longer
 * in phases that can wait (lua/resty/ts/http/run.lua).
 */
export const MARGIN_MS = 100;

/** Tokens are from 1 on. */
const NO_TOKEN = 0;

export interface EngineOptions {
  /** @throws {RestyTsError} module_not_found, module_failed, bad_plugin. */
  loadPlugin(name: string): Promise<Plugin>;
  logFor(plugin: string): Log;
  /** Logs a failure that nobody waits for. */
  report(title: string, error: unknown): void;
  ask: Services["ask"];
  checkCarried: Services["checkCarried"];
  stackOf: Services["stackOf"];
  /** Is called for each entry of `log`: its handlers have ended, or there are none to be called. */
  logged?(done: number, dropped: number): void;
  /** What to wait for before more is done; undefined: nothing, this turn of the loop is young. */
  pause?(): Promise<void> | undefined;
  /** How long each of setup, handoff and teardown may take: 10 s unless told. */
  readonly settleMs?: number;
  /** All ids of runs and streams are larger: one that another engine gave is not known here. */
  readonly firstId?: number;
}

export type { LogEntry };

interface Configured {
  readonly chain: Chain;
  readonly description: ChainDescription;
}

export class Engine implements Services {
  readonly #options: EngineOptions;
  readonly #chains = new Map<number, Promise<Configured>>();
  /** Those that are ready, without a promise on the way of each request. */
  readonly #ready = new Map<number, Chain>();
  /** Chains of newer plugins until Lua asks for them, by the tokens of those before them. */
  readonly #successors = new Map<number, Chain>();
  /** Tokens of which only requests under way are left, and the tokens that replaced them. */
  readonly #superseded = new Map<number, number>();
  /** How often plugins were replaced. */
  #renewals = 0;
  readonly #instances: Instances;
  readonly #requests = new Requests();
  readonly #parked = new Map<number, Run>();
  readonly #streams: Streams;
  readonly #logRuns: LogRuns;
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
    const reported = new WeakSet<object>();
    this.report = (title, error) => {
      if (typeof error === "object" && error !== null) {
        if (reported.has(error)) return; // on its way to somebody else who reports it
        reported.add(error);
      }
      options.report(title, error);
    };
    this.#logRuns = new LogRuns({
      ready: (token) => this.#ready.get(token),
      configured: (token) => this.#chains.get(token)?.then(({ chain }) => chain),
      start: (chain, head, input) => new Run(chain, head, input, this).start(),
      report: this.report,
      logged: (done, dropped) => options.logged?.(done, dropped),
      pause: () => options.pause?.(),
    });
    this.#instances = new Instances({
      logFor: (plugin) => options.logFor(plugin),
      report: this.report,
      ask: this.ask,
      settleMs: options.settleMs ?? SETTLE_MS,
    });
  }

  // Functions of the protocol -----------------------------------------------------------------

  /**
   * @param replaces the token for which `renew` has prepared a chain: this is its name.
   * @throws {RestyTsError} bad_config, bad_plugin, module_not_found, module_failed; what setup throws.
   */
  async configure(
    token: number,
    members: readonly Member[],
    replaces?: number | null,
  ): Promise<ChainDescription> {
    const before = replaces ?? NO_TOKEN;
    const successor = this.#successors.get(before);
    if (successor !== undefined) {
      this.#successors.delete(before);
      this.#superseded.set(before, token);
      const description = successor.describe();
      this.#chains.set(token, Promise.resolve({ chain: successor, description }));
      this.#ready.set(token, successor);
      return description;
    }
    let configured = this.#chains.get(token);
    if (configured === undefined) {
      configured = this.#configure(members, (chain) => {
        // Unless it was released meanwhile.
        if (this.#chains.get(token) === configured) this.#ready.set(token, chain);
      });
      this.#chains.set(token, configured);
      configured.catch(() => this.#chains.delete(token));
    }
    return (await configured).description;
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
    const input: RunInput = { vars, ctx, chunk, deadline: caller.deadline - MARGIN_MS };
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

  resume(id: number, replies: Replies, caller: Caller): Promise<Changes> {
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
    const work = this.#logRuns.run(entries);
    this.#background.add(work);
    await work.finally(() => this.#background.delete(work));
  }

  /** Requests have ended: what was kept for them goes. */
  ended(requestIds: Iterable<number>): void {
    const begun = this.#logRuns.begun;
    if (begun !== undefined) {
      void begun.then(() => {
        this.ended(requestIds);
      });
      return;
    }
    if (this.#requests.size === 0) return;
    const ids = requestIds[Symbol.iterator]();
    for (let next = ids.next(); next.done !== true; next = ids.next()) {
      const state = this.#requests.end(next.value);
      if (state === undefined) continue;
      const reason = new RestyTsError("aborted", "the request has ended");
      if (state.stream !== undefined) this.#streams.cancel(state.stream, reason);
      state.run?.abort(reason);
      const pause = this.#options.pause?.();
      if (pause !== undefined) {
        void pause.then(() => {
          this.ended({ [Symbol.iterator]: () => ids });
        });
        return;
      }
    }
  }

  /** Tears down when what is under way with them has ended. */
  async release(tokens: readonly number[]): Promise<void> {
    await Promise.all(tokens.map((token) => this.#release(token)));
  }

  /**
   * Makes chains of newer plugins ready beside those in use: `configure` gets them.
   * @param plugins the newest of each name.
   * @param commit is called when no more can fail, with the names that were refused and why; what it
   * installs is what `loadPlugin` gives from then on.
   * @returns the tokens whose chains have successors, also those that Lua has not asked for yet.
   */
  async renew(
    plugins: ReadonlyMap<string, Plugin>,
    commit: (refused: ReadonlyMap<string, unknown>) => void,
  ): Promise<number[]> {
    const useless: Chain[] = [];
    const { made } = await renewMembers({
      current: () => this.#newest().flatMap(([, { members }]) => members),
      plugins,
      renew: (plugin, member) => this.#instances.renew(plugin, member),
      teardown: (instances) => this.#instances.teardown(instances),
      commit: ({ made, refused }) => {
        this.#renewals++;
        commit(refused);
        this.#instances.replace(made.keys());
        useless.push(...this.#prepare(made));
      },
    });
    await Promise.all(useless.map((chain) => this.#instances.drop(chain)));
    // Of chains that were released meanwhile.
    const unused = [...made.values()].filter((instance) => !this.#instances.isUsed(instance));
    await this.#instances.teardown(unused);
    return [...this.#successors.keys()];
  }

  /** Releases all chains, or these, and waits for what goes on in the background. */
  async close(tokens: readonly number[] | null): Promise<void> {
    while (this.#background.size > 0) await Promise.allSettled(this.#background);
    const all = tokens ?? [...this.#chains.keys()];
    await Promise.all(all.map((token) => this.#release(token, false)));
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

  track(work: Promise<unknown>, title: string, chain: Chain): void {
    chain.hold();
    const tracked = Promise.resolve(work)
      .catch((error: unknown) => {
        this.report(`${title}, in waitUntil`, error);
      })
      .finally(() => {
        chain.letGo();
        this.#background.delete(tracked);
      });
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
    const id = this.#streams.open(run, rest);
    this.enter(run.head.requestId).stream = id;
    return id;
  }

  enter(requestId: number): RequestState {
    return this.#requests.enter(requestId);
  }

  leave(run: Run, state: RequestState): void {
    this.#requests.leave(run.head.requestId, state);
  }

  // -------------------------------------------------------------------------------------------

  /** @param ready is called with the chain at once when there is one: no reload comes between. */
  async #configure(members: readonly Member[], ready: (chain: Chain) => void): Promise<Configured> {
    const made: ChainMember[] = [];
    const undo = (): Promise<void> =>
      this.#instances.teardown(made.splice(0).map((one) => one.instance));
    for (let renewals = -1; renewals !== this.#renewals;) {
      await undo();
      renewals = this.#renewals;
      try {
        for (const [name, given, chosen] of members) {
          const options = chosen ?? {};
          const plugin = await this.#options.loadPlugin(name);
          const instance = await this.#instances.make(plugin, given, options);
          made.push({ instance, options, given });
        }
      } catch (error) {
        await undo();
        throw error;
      }
    }
    const chain = this.#adopt(made);
    ready(chain);
    return { chain, description: chain.describe() };
  }

  /** What requests to come are served by: chains by their tokens, or what Lua has yet to ask for. */
  #newest(): [token: number, chain: Chain][] {
    return [...this.#ready]
      .filter(([token]) => !this.#superseded.has(token))
      .map(([token, chain]) => [token, this.#successors.get(token) ?? chain]);
  }

  /** Makes the successors that have these instances. @returns those that nobody will ask for. */
  #prepare(made: ReadonlyMap<PluginInstance, PluginInstance>): Chain[] {
    const useless: Chain[] = [];
    for (const [token, { members }] of this.#newest()) {
      if (!members.some(({ instance }) => made.has(instance))) continue;
      const before = this.#successors.get(token);
      if (before !== undefined) useless.push(before);
      const successor = members.map((member) => ({
        ...member,
        instance: made.get(member.instance) ?? member.instance,
      }));
      this.#successors.set(token, this.#adopt(successor));
    }
    return useless;
  }

  #adopt(members: readonly ChainMember[]): Chain {
    this.#instances.use(members);
    return new Chain(members);
  }

  async #release(token: number, patient = true): Promise<void> {
    const configured = this.#chains.get(token);
    this.#chains.delete(token);
    this.#ready.delete(token);
    this.#forgetSuperseded(token);
    const successor = this.#successors.get(token);
    this.#successors.delete(token);
    if (successor !== undefined) await this.#instances.drop(successor);
    if (configured === undefined) return;
    const chain = await configured.then(
      (value) => value.chain,
      () => undefined, // whoever configured it was told
    );
    if (chain === undefined) return;
    if (patient) await chain.idle();
    await this.#instances.drop(chain);
  }

  /** Those that a token has replaced are its successor's; or in use again, as Lua gave it up. */
  #forgetSuperseded(token: number): void {
    const next = this.#superseded.get(token);
    this.#superseded.delete(token);
    for (const [old, by] of this.#superseded) {
      if (by !== token) continue;
      if (next === undefined) this.#superseded.delete(old);
      else this.#superseded.set(old, next);
    }
  }

  #continue(head: Head, input: RunInput): Changes | Promise<Changes> {
    const runs = this.#requests.find(head.requestId)?.bodies;
    const key = bodyRunKey(head);
    const run = runs?.get(key);
    if (run === undefined || !isBodyPhase(head.phase)) {
      throw new RestyTsError("exited", "the environment ended that had the beginning of the body");
    }
    if ((head.flags & HeadFlag.last) !== 0) runs!.delete(key);
    return run.next(head.flags, input);
  }
}
