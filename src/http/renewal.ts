/**
 * A newer version of a plugin for every configuration that the older one has: all of them, or none.
 *
 * Thread: the environment's own. Invariant: what was made for a plugin that is refused is torn down.
 */
import type { Plugin } from "../sdk/plugin.js";
import type { ChainMember, PluginInstance } from "./chain.js";

export interface Renewal {
  /** By the instance that each replaces. */
  readonly made: ReadonlyMap<PluginInstance, PluginInstance>;
  /** By the plugin's name. */
  readonly refused: ReadonlyMap<string, unknown>;
}

export interface RenewalParts {
  /** All members of chains in use; chains may come while this waits. */
  readonly current: () => readonly ChainMember[];
  /** The newest of each name. */
  readonly plugins: ReadonlyMap<string, Plugin>;
  readonly renew: (plugin: Plugin, member: ChainMember) => Promise<PluginInstance>;
  readonly teardown: (instances: readonly PluginInstance[]) => Promise<void>;
  /** Is called when nothing in use is older than it need be, before that can change. */
  readonly commit: (renewal: Renewal) => void;
}

export async function renewMembers(parts: RenewalParts): Promise<Renewal> {
  const { current, plugins, renew, teardown, commit } = parts;
  const made = new Map<PluginInstance, PluginInstance>();
  const refused = new Map<string, unknown>();
  const isOld = ({ instance }: ChainMember): boolean => {
    const newest = plugins.get(instance.name);
    return (
      newest !== undefined &&
      newest !== instance.loaded &&
      !refused.has(instance.name) &&
      !made.has(instance)
    );
  };
  for (let member = current().find(isOld); member !== undefined; member = current().find(isOld)) {
    const { name } = member.instance;
    try {
      made.set(member.instance, await renew(plugins.get(name)!, member));
    } catch (error) {
      refused.set(name, error);
      const useless = [...made].filter(([old]) => old.name === name);
      for (const [old] of useless) made.delete(old);
      await teardown(useless.map(([, instance]) => instance));
    }
  }
  const renewal = { made, refused };
  commit(renewal);
  return renewal;
}
