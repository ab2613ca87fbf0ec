/**
 * Hot reload: what has changed is loaded beside what is in use, checked and set up, and then put in
 * its place, all at once. What is broken is refused, and the version before it goes on.
 *
 * Thread: the environment's own. Invariants: one reload at a time; until all that can fail has been
 * done nothing in use is changed; what does not settle is refused, and holds up no later reload.
 */
import type { Engine } from "../http/engine.js";
import { settleWithin } from "../http/settle.js";
import { withCompiler } from "./compile.js";
import { messageOf, stackOf } from "./describe.js";
import type { Dispatcher, ImportedModule } from "./dispatcher.js";
import type { Logger } from "./log.js";
import type { ModuleLoader, Namespace } from "./modules.js";
import type { PluginLoader } from "./plugins.js";

export const HOST_MODULE = "resty-ts:host";

/** What `reload` answers; Lua's names. */
export interface ReloadReport {
  /** Modules and plugins. */
  readonly reloaded: string[];
  /** Why, by the module or plugin. */
  readonly refused: Record<string, string>;
  readonly unchanged: number;
  /** Of chains that have successors: `configure` gets them. */
  readonly tokens: number[];
}

interface Parts {
  readonly modules: ModuleLoader;
  readonly dispatcher: Dispatcher;
  readonly plugins: PluginLoader;
  readonly engine: Engine;
  readonly logger: Logger;
  /** How long each of `handoff` and `takeover` of a module may take. */
  readonly settleMs: number;
  /** Has Lua begin a reload. */
  readonly ask: () => void;
}

type HandOver = ((given?: unknown) => unknown) | undefined;

export class Reloader {
  readonly #parts: Parts;
  #last: Promise<unknown> = Promise.resolve();
  /** The one that has not begun. */
  #next: Promise<ReloadReport> | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Never rejects for what a module or plugin does: that is in the report, and in the log. All who ask
   * while one is under way share the next.
   *
   * @param signal aborted when Lua does not wait any more: it is asked to come for what is ready.
   */
  async reload(signal: AbortSignal): Promise<ReloadReport> {
    this.#next ??= this.#last.then(() => {
      this.#next = undefined;
      return withCompiler(() => this.#reload());
    });
    this.#last = this.#next.catch(() => undefined); // whoever asked is told
    const report = await this.#next;
    if (signal.aborted && report.tokens.length > 0) this.#parts.ask();
    return report;
  }

  /** All files of what is in use. */
  async files(): Promise<string[]> {
    return [...(await this.#parts.modules.files()), ...(await this.#parts.plugins.files())];
  }

  async #reload(): Promise<ReloadReport> {
    const { plugins, engine, logger } = this.#parts;
    const report: ReloadReport = { reloaded: [], refused: {}, unchanged: 0, tokens: [] };
    const counts = { unchanged: 0 };
    const refuse = (name: string, error: unknown): void => {
      report.refused[name] = messageOf(error);
      const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
      const text = `${name} was not reloaded, the version before it goes on`;
      logger.write("error", `${text}: ${messageOf(error)}\n${stackOf(cause)}`);
    };
    const installs: (() => void)[] = [];

    for (const [first, ...others] of await this.#modulesByFile()) {
      try {
        const newer = await this.#newerModule([first!, ...others]);
        if (newer === undefined) counts.unchanged++;
        else {
          installs.push(newer);
          report.reloaded.push(first!.name);
        }
      } catch (error) {
        refuse(first!.name, error);
      }
    }

    const loaded = await plugins.loaded();
    const fresh = new Map<string, () => void>();
    for (const name of [...loaded.keys()]) {
      try {
        const newer = await plugins.newer(name);
        if (newer === undefined) counts.unchanged++;
        else {
          loaded.set(name, newer.plugin);
          fresh.set(name, newer.install);
        }
      } catch (error) {
        refuse(name, error);
      }
    }
    const tokens = await engine.renew(loaded, (refused) => {
      for (const [name, error] of refused) refuse(name, error);
      for (const [name, install] of fresh) {
        if (refused.has(name)) continue;
        install();
        report.reloaded.push(name);
      }
      for (const install of installs) install();
    });
    if (report.reloaded.length > 0) {
      logger.write("notice", `reloaded: ${report.reloaded.join(", ")}`);
    }
    return { ...report, ...counts, tokens };
  }

  /** Several names may stand for one file. */
  async #modulesByFile(): Promise<ImportedModule[][]> {
    const byFile = new Map<string, ImportedModule[]>();
    for (const module of this.#parts.dispatcher.modules) {
      // One that is not there has a group of its own, and is told of when it is loaded.
      const file = await this.#parts.modules.find(module.name).catch(() => module.name);
      byFile.set(file, [...(byFile.get(file) ?? []), module]);
    }
    return [...byFile.values()];
  }

  /** @returns what puts the newer version in its place; undefined when there is none. */
  async #newerModule(names: readonly ImportedModule[]): Promise<(() => void) | undefined> {
    const newer = await this.#parts.modules.newer(names[0]!.name);
    if (newer === undefined) return undefined;
    const { namespace, old, install } = newer;
    for (const module of names) module.check(namespace);
    await this.#handOver(names[0]!.name, old, namespace);
    return () => {
      install();
      for (const module of names) module.use(namespace);
    };
  }

  /** Hands over what the old version of a module gives, if it gives anything. */
  async #handOver(name: string, old: Namespace | undefined, namespace: Namespace): Promise<void> {
    const given = await this.#limited(`${name} handoff`, () => (old?.["handoff"] as HandOver)?.());
    await this.#limited(`${name} takeover`, () => (namespace["takeover"] as HandOver)?.(given));
  }

  #limited(title: string, begin: () => unknown): Promise<unknown> {
    const { settleMs, logger } = this.#parts;
    return settleWithin(title, settleMs, begin, (work) => {
      work.catch((error: unknown) => {
        logger.write("error", `${title} (given up) failed: ${stackOf(error)}`);
      });
    });
  }
}
