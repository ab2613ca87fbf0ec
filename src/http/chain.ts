/**
 * A chain: plugins with their configurations, in the order they run, and what Lua must know of each
 * phase. A chain is made once for each token and shared by all requests.
 */
import type { Log } from "../sdk/context.js";
import type { Phase, Plugin, PhaseOptions, Policies, Policy } from "../sdk/plugin.js";
import {
  HOOK_PHASES,
  isBeforeAnswer,
  isBodyPhase,
  LUA_NAMES,
  PHASES,
  PhaseNumber,
  SYNC_PHASES,
} from "./phases.js";

/** A plugin with one configuration. It is `instance` of the handlers. */
export interface PluginInstance {
  /** What its file exports. */
  readonly loaded: Plugin;
  /** Whose handlers, setup and teardown it has: the same, or a part of it (apisix.ts). */
  readonly plugin: Plugin;
  readonly name: string;
  readonly conf: unknown;
  readonly metadata: unknown;
  readonly log: Log;
  /** Of responseHeaders: changes of responses. */
  readonly declared: readonly unknown[];
  state: unknown;
}

/** A plugin's place in a chain. */
export interface ChainMember {
  readonly instance: PluginInstance;
  readonly options: ChainOptions;
  /** Its configuration as Lua has given it. */
  readonly given: unknown;
}

/** What a chain may say over the plugin's own. Lua's names. */
export interface ChainOptions {
  readonly on_error?: Policy;
  readonly on_timeout?: Policy;
  readonly on_overload?: Policy;
  readonly timeout_ms?: number;
  readonly priority?: number;
  /**
   * It is in a list of APISIX's hooks, this one if that is said: its configuration is a JSON text, and
   * all of its handlers before the upstream run together in `rewrite`, plugin by plugin.
   */
  readonly hook?: true | Hook | null;
  /** APISIX's metadata of the plugin. */
  readonly metadata?: unknown;
  /** It is what the plugin has once in a worker: apisix.init, destroy and its routes. */
  readonly worker?: boolean | null;
}

/** By the ends of their names: ts-plugin-pre-req and so on. */
export type Hook = "pre-req" | "post-req" | "post-resp";

/** 0: open; else the status that the client gets. */
type PolicyStatus = number;

export interface Handler {
  readonly instance: PluginInstance;
  readonly phase: Phase;
  /** For messages: "jwt-auth access". */
  readonly title: string;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- each phase has its own types
  readonly run: (ctx: any, instance: any) => unknown;
  /** Whether the phase cannot wait. */
  readonly sync: boolean;
  readonly timeoutMs: number | undefined;
  readonly onError: PolicyStatus;
  readonly onTimeout: PolicyStatus;
  readonly onOverload: PolicyStatus;
}

/** docs/http-protocol.md: a phase in configure's result. */
export interface PhaseDescription {
  readonly vars: readonly string[];
  readonly ctx: readonly string[];
  readonly timeout_ms: number | null;
  readonly on_timeout: PolicyStatus;
  readonly on_overload: PolicyStatus;
  readonly on_error: PolicyStatus;
  readonly plugins: string;
  readonly again: boolean;
  readonly buffer_bytes: number | null;
}

/** The same: configure's result. */
export interface ChainDescription {
  /** By Lua's names, those in which the chain does anything. */
  readonly phases: Readonly<Record<string, PhaseDescription>>;
  /** Changes that Lua makes of each response before the headerFilter handlers; null: none. */
  readonly fields: readonly unknown[] | null;
}

const CLOSED = { onError: 500, onTimeout: 504, onOverload: 503 } as const;

function policyStatus(
  kind: keyof Policies,
  phase: Phase,
  ...given: (Policies | PhaseOptions | undefined)[]
): PolicyStatus {
  const policy =
    given.map((policies) => policies?.[kind]).find((value) => value !== undefined) ??
    (isBeforeAnswer(PhaseNumber[phase]) ? "closed" : "open");
  if (policy === "open") return 0;
  return policy === "closed" ? CLOSED[kind] : policy;
}

function handlerOf(
  instance: PluginInstance,
  phase: Phase,
  options: ChainOptions,
): Handler | undefined {
  const { plugin, name } = instance;
  // eslint-disable-next-line @typescript-eslint/unbound-method -- it is bound below
  const run = plugin[phase] as Handler["run"] | undefined;
  if (run === undefined) return undefined;
  const own = plugin.phases?.[phase];
  const chain: Policies = Object.fromEntries(
    Object.entries({
      onError: options.on_error,
      onTimeout: options.on_timeout,
      onOverload: options.on_overload,
    }).filter(([, value]) => value !== undefined),
  );
  return {
    instance,
    phase,
    title: `${name} ${phase}`,
    run: run.bind(plugin),
    sync: SYNC_PHASES.has(phase),
    timeoutMs: options.timeout_ms ?? own?.timeoutMs,
    onError: policyStatus("onError", phase, chain, own, plugin.policies),
    onTimeout: policyStatus("onTimeout", phase, chain, own, plugin.policies),
    onOverload: policyStatus("onOverload", phase, chain, own, plugin.policies),
  };
}

/** Which handlers of a member run in a phase. */
function phasesOf(phase: Phase, { hook }: ChainOptions): readonly Phase[] {
  if (!hook || !isBeforeAnswer(PhaseNumber[phase])) return [phase];
  return phase === "rewrite" ? HOOK_PHASES : [];
}

/** The first that is not open: what fails as a whole is as closed as its strictest plugin. */
function strictest(handlers: readonly Handler[], kind: keyof typeof CLOSED): PolicyStatus {
  return handlers.map((handler) => handler[kind]).find((status) => status !== 0) ?? 0;
}

export class Chain {
  /** As listed. */
  readonly members: readonly ChainMember[];
  /** In the order they run. */
  readonly instances: readonly PluginInstance[];
  /** By PhaseNumber. */
  readonly handlers: readonly (readonly Handler[])[];
  /** Whether a handler gets the response's body. */
  readonly filtersBody: boolean;
  /** What all plugins need, in the order of `vars` in messages. */
  readonly vars: readonly string[];

  /** Runs and background work under way. */
  #users = 0;
  #onIdle: (() => void)[] = [];

  /** @param members as listed. */
  constructor(members: readonly ChainMember[]) {
    this.members = members;
    const priorityOf = ({ options, instance }: ChainMember): number =>
      options.priority ?? instance.plugin.priority ?? 0;
    // A stable sort: as listed among equals.
    const sorted = [...members].sort((a, b) => priorityOf(b) - priorityOf(a));
    this.instances = sorted.map(({ instance }) => instance);
    this.vars = [...new Set(this.instances.flatMap(({ plugin }) => plugin.needs?.vars ?? []))];
    const handlers: Handler[][] = [[]];
    for (const phase of PHASES) {
      handlers[PhaseNumber[phase]] = sorted
        .flatMap(({ instance, options }) =>
          phasesOf(phase, options).map((each) => handlerOf(instance, each, options)),
        )
        .filter((handler) => handler !== undefined);
    }
    this.handlers = handlers;
    this.filtersBody = handlers.some((list, phase) => isBodyPhase(phase) && list.length > 0);
  }

  hold(): void {
    this.#users++;
  }

  letGo(): void {
    if (--this.#users > 0) return;
    for (const resolve of this.#onIdle.splice(0)) resolve();
  }

  /** Resolves when nothing of it is under way. */
  async idle(): Promise<void> {
    if (this.#users > 0) await new Promise<void>((resolve) => this.#onIdle.push(resolve));
  }

  describe(): ChainDescription {
    const ctx = [...new Set(this.instances.flatMap(({ plugin }) => plugin.needs?.ctx ?? []))];
    const phases: Record<string, PhaseDescription> = {};
    for (const phase of PHASES) {
      const handlers = this.handlers[PhaseNumber[phase]]!;
      if (handlers.length === 0) continue;
      const timeouts = handlers.map(({ timeoutMs }) => timeoutMs);
      const buffers = handlers.map(({ instance }) => instance.plugin.bufferResponse?.maxBytes);
      phases[LUA_NAMES[phase]] = {
        vars: this.vars,
        ctx,
        timeout_ms: timeouts.some((ms) => ms === undefined)
          ? null
          : timeouts.reduce<number>((sum, ms) => sum + ms!, 0),
        on_timeout: strictest(handlers, "onTimeout"),
        on_overload: strictest(handlers, "onOverload"),
        on_error: strictest(handlers, "onError"),
        plugins: [...new Set(handlers.map(({ instance }) => instance.name))].join(", "),
        again: handlers.every(({ instance }) => instance.plugin.idempotent === true),
        buffer_bytes:
          phase === "bodyFilter" && buffers.some((bytes) => bytes !== undefined)
            ? Math.max(...buffers.filter((bytes) => bytes !== undefined))
            : null,
      };
    }
    const fields = this.instances.flatMap(({ declared }) => declared);
    return { phases, fields: fields.length > 0 ? fields : null };
  }
}
