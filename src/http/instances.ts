/**
 * Instances of plugins: how one begins (configuration, setup), how the next version takes over
 * (handoff), and how it ends (teardown), when no chain has it any more.
 *
 * Thread: the environment's own. Invariants: what was set up is torn down once, also what was given
 * up before it was set up; nothing here waits for an author's promise without a limit.
 */
import type { Log } from "../sdk/context.js";
import { RestyTsError } from "../sdk/errors.js";
import type { Plugin, SetupContext } from "../sdk/plugin.js";
import { workerPart } from "./apisix.js";
import type { Chain, ChainMember, ChainOptions, PluginInstance } from "./chain.js";
import { checkConfig, checkMetadata, checkText } from "./config.js";
import { declaredFields } from "./declared.js";
import { checkHook } from "./definition.js";
import { settleWithin } from "./settle.js";
import { SharedDictImpl } from "./shared.js";

export interface InstanceServices {
  logFor(plugin: string): Log;
  /** Logs a failure that nobody waits for. */
  report(title: string, error: unknown): void;
  /** Asks Lua what needs no request. */
  ask(words: unknown[]): Promise<unknown[]>;
  /** How long each of setup, handoff and teardown may take. */
  readonly settleMs: number;
}

async function configurationOf(plugin: Plugin, given: unknown, options: ChainOptions) {
  if (options.worker === true) return undefined;
  return options.hook ? checkText(plugin, given) : checkConfig(plugin, given);
}

export class Instances {
  readonly #services: InstanceServices;
  /** How many chains an instance is in. */
  readonly #uses = new Map<PluginInstance, number>();
  readonly #replaced = new WeakSet<PluginInstance>();

  constructor(services: InstanceServices) {
    this.#services = services;
  }

  /**
   * @param previous what handoff of the version before has returned.
   * @throws {RestyTsError} bad_config, bad_plugin, handler_failed.
   */
  async make(
    loaded: Plugin,
    given: unknown,
    options: ChainOptions,
    previous?: unknown,
  ): Promise<PluginInstance> {
    const { name } = loaded;
    if (options.hook) checkHook(loaded, options.hook);
    const plugin = options.worker === true ? workerPart(loaded) : loaded;
    const conf = await this.#limited(`${name} configuration`, () =>
      configurationOf(plugin, given, options),
    );
    const metadata: unknown = await this.#limited(`${name} metadata`, () =>
      checkMetadata(loaded, options.metadata),
    );
    const log = this.#services.logFor(name);
    const declared = this.#declared(plugin, conf);
    const instanceOf = (state: unknown): PluginInstance => ({
      ...{ loaded, plugin, name, conf, metadata, log },
      ...{ state, declared },
    });
    try {
      const context = { ...this.#setupContext(log), previous };
      const state: unknown = await this.#limited(
        `${name} setup`,
        () => plugin.setup?.(conf, context) as unknown,
        (made) => this.teardown([instanceOf(made)]),
      );
      return instanceOf(state);
    } catch (error) {
      this.#services.report(`${name} setup`, error);
      const what = error instanceof Error ? error.message : String(error);
      throw new RestyTsError("handler_failed", `${name}: setup failed: ${what}`, { cause: error });
    }
  }

  /** @throws {RestyTsError} "handler_failed". */
  #declared(plugin: Plugin, conf: unknown): readonly unknown[] {
    try {
      return declaredFields(plugin, conf);
    } catch (error) {
      this.#services.report(`${plugin.name} responseHeaders`, (error as Error).cause);
      throw error;
    }
  }

  /** @throws what the old one's handoff or the new one's setup throws. */
  async renew(loaded: Plugin, member: ChainMember): Promise<PluginInstance> {
    const { instance, given, options } = member;
    const context = this.#setupContext(instance.log);
    const previous: unknown = await this.#limited(`${instance.name} handoff`, () =>
      instance.plugin.handoff?.(instance, context),
    );
    return this.make(loaded, given, options, previous);
  }

  /** They are in one more chain. */
  use(members: readonly ChainMember[]): void {
    for (const { instance } of members) {
      this.#uses.set(instance, (this.#uses.get(instance) ?? 0) + 1);
    }
  }

  isUsed(instance: PluginInstance): boolean {
    return this.#uses.has(instance);
  }

  /** A newer version has taken over. */
  replace(instances: Iterable<PluginInstance>): void {
    for (const instance of instances) this.#replaced.add(instance);
  }

  /** Tears down what no other chain has. */
  async drop(chain: Chain): Promise<void> {
    const last = chain.instances.filter((instance) => {
      const uses = this.#uses.get(instance)! - 1;
      if (uses > 0) this.#uses.set(instance, uses);
      else this.#uses.delete(instance);
      return uses === 0;
    });
    await this.teardown(last);
  }

  async teardown(instances: readonly PluginInstance[]): Promise<void> {
    for (const instance of instances) {
      try {
        const context = {
          ...this.#setupContext(instance.log),
          replaced: this.#replaced.has(instance),
        };
        await this.#limited(`${instance.name} teardown`, () =>
          instance.plugin.teardown?.(instance, context),
        );
      } catch (error) {
        this.#services.report(`${instance.name} teardown`, error);
      }
    }
  }

  /**
   * @param undo for what comes of it after the limit.
   * @throws what `begin` throws, {RestyTsError} "handler_failed" at the limit.
   */
  #limited<T>(
    title: string,
    begin: () => T | PromiseLike<T>,
    undo?: (result: T) => Promise<void>,
  ): Promise<T> {
    return settleWithin(title, this.#services.settleMs, begin, (work) => {
      work.then(undo).catch((error: unknown) => {
        this.#services.report(`${title} (given up)`, error);
      });
    });
  }

  #setupContext(log: Log): SetupContext {
    return {
      log,
      shared: (name) => new SharedDictImpl((...words) => this.#services.ask(words), name),
    };
  }
}
