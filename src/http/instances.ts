/**
 * Instances of plugins: how one begins (configuration, setup), how the next version takes over
 * (handoff), and how it ends (teardown), when no chain has it any more.
 *
 * Thread: the environment's own. Invariant: what was set up is torn down once.
 */
import type { Log } from "../sdk/context.js";
import { RestyTsError } from "../sdk/errors.js";
import type { Plugin, SetupContext } from "../sdk/plugin.js";
import { workerPart } from "./apisix.js";
import type { Chain, ChainMember, ChainOptions, PluginInstance } from "./chain.js";
import { checkConfig, checkMetadata, checkText } from "./config.js";
import { checkHook } from "./definition.js";
import { SharedDictImpl } from "./shared.js";

export interface InstanceServices {
  logFor(plugin: string): Log;
  /** Logs a failure that nobody waits for. */
  report(title: string, error: unknown): void;
  /** Asks Lua what needs no request. */
  ask(words: unknown[]): Promise<unknown[]>;
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
    const conf: unknown = await configurationOf(plugin, given, options);
    const metadata: unknown = await checkMetadata(loaded, options.metadata);
    const log = this.#services.logFor(name);
    try {
      const context = { ...this.#setupContext(log), previous };
      const state = (await plugin.setup?.(conf, context)) as unknown;
      return { loaded, plugin, name, conf, metadata, log, state };
    } catch (error) {
      this.#services.report(`${name} setup`, error);
      const what = error instanceof Error ? error.message : String(error);
      throw new RestyTsError("handler_failed", `${name}: setup failed: ${what}`, { cause: error });
    }
  }

  /** @throws what the old one's handoff or the new one's setup throws. */
  async renew(loaded: Plugin, member: ChainMember): Promise<PluginInstance> {
    const { instance, given, options } = member;
    const context = this.#setupContext(instance.log);
    const previous: unknown = await instance.plugin.handoff?.(instance, context);
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
        await instance.plugin.teardown?.(instance, {
          ...this.#setupContext(instance.log),
          replaced: this.#replaced.has(instance),
        });
      } catch (error) {
        this.#services.report(`${instance.name} teardown`, error);
      }
    }
  }

  #setupContext(log: Log): SetupContext {
    return {
      log,
      shared: (name) => new SharedDictImpl((...words) => this.#services.ask(words), name),
    };
  }
}
