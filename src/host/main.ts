/**
 * The host: what runs inside Node, in an nginx worker or beside it. Bundled into dist/host.cjs;
 * native/runtime/embedded.cc and program.ts call `main`.
 *
 * Thread: the environment's own. Invariant: nothing that a plugin leaves unhandled is lost: it is
 * in the error log before the environment ends or goes on.
 */
import { knowSchemas } from "../http/config.js";
import type { Call } from "./call.js";
import { Channel, type NativeChannel } from "./channel.js";
import { decode } from "./codec.js";
import { messageOf, stackOf } from "./describe.js";
import { beGuest } from "./guest.js";
import { openInspector } from "./inspect.js";
import { Dispatcher, type DispatcherOptions } from "./dispatcher.js";
import { KeptCompiled } from "./kept.js";
import { Logger } from "./log.js";
import { HTTP_MODULE, httpModule, newEngine } from "./http.js";
import { ModuleLoader, type Namespace } from "./modules.js";
import { provideSdk } from "./sdk-module.js";
import { completePlatform } from "./platform.js";
import { PluginLoader } from "./plugins.js";
import { Questions } from "./questions.js";
import { HOST_MODULE, Reloader } from "./reload.js";
import { describeStall } from "./stalled.js";
import { watchFile, watchFolders } from "./watch.js";
import { Kind } from "./wire.js";

/** How long the first call may wait for plugins to be loaded. */
const MOST_PRELOAD_MS = 2000;

/** Of UTF-8, for each unit of a string: more than enough for what frames it, too. */
const MOST_BYTES_A_CHARACTER = 4;

/** native/addon */
export interface Binding {
  readonly Channel: new (external: unknown) => NativeChannel;
}

/** What lua/resty/ts/lifecycle.lua gives to each environment. */
export interface HostSettings extends DispatcherOptions {
  /** Absolute paths of the folders that modules and plugins are loaded from; "": none. */
  readonly modules: string;
  readonly plugins: string;
  /** Of memory outside of JavaScript's heap; 0: no limit. */
  readonly maxExternalMb: number;
  /** How long to spin for submissions before sleeping, in µs. */
  readonly spinUs: number;
  /** The number of this environment among all of its worker: ids of ours are never another's. */
  readonly life: number;
  /** Where the environment before it was found stalled: JSON (rts_runtime_stack), or "". */
  readonly stalledAt: string;
  /** Whether to load all plugins before the first call. */
  readonly preload: boolean;
  /** What the environments before it had kept (kept.ts). */
  readonly kept: readonly string[];
  /** Whether a change of what is loaded reloads it. */
  readonly watch: boolean;
  /** A file whose change reloads what has changed; "": none. */
  readonly reloadFile: string;
  /** How long a start, a plugin's setup, handoff or teardown, or a module's top level may take. */
  readonly startTimeoutMs: number;
  /** Where the inspector listens, an address of loopback with a port; "": it does not. */
  readonly inspect: string;
}

/**
 * Starts the host on a channel. It listens when its plugins are loaded.
 * @param settings HostSettings in MessagePack.
 * @param isGuest Whether the process is nginx's.
 */
export function main(
  binding: Binding,
  external: unknown,
  settings: Uint8Array,
  isGuest = true,
): void {
  const options = decode(settings, 0, settings.length) as HostSettings;
  process.setSourceMapsEnabled(true);
  const native = new binding.Channel(external);
  const channel = new Channel(native);
  const logger = new Logger(channel, options.maxMessageBytes);
  const kept = new KeptCompiled(options.kept);
  knowSchemas(kept.schemas, (name) => {
    kept.putSchema(name);
  });
  const settleMs = options.startTimeoutMs;
  const plugins = new PluginLoader(
    options.plugins,
    new ModuleLoader(options.plugins, kept, {}, settleMs),
  );
  const questions = new Questions(channel);
  const engine = newEngine(channel, plugins, logger, questions, options.life, settleMs);
  const builtIn: Record<string, Namespace> = { [HTTP_MODULE]: httpModule(engine, questions) };
  const modules = new ModuleLoader(options.modules, kept, builtIn, settleMs);
  provideSdk();
  completePlatform();
  const dispatcher = new Dispatcher(channel, modules, logger, options);
  // Lua has its part in a reload, so it is Lua that begins it.
  const ask = (): void => {
    questions.ask(["reload"]).catch((error: unknown) => {
      logger.write("error", `the reload did not begin: ${messageOf(error)}`);
    });
  };
  const reloader = new Reloader({ modules, dispatcher, plugins, engine, logger, settleMs, ask });
  builtIn[HOST_MODULE] = {
    reload(this: Call) {
      return reloader.reload(this.signal);
    },
  };
  logger.captureConsole();
  if (isGuest) beGuest(logger);
  if (options.inspect !== "") openInspector(options.inspect, logger);

  process.on("uncaughtExceptionMonitor", (error) => {
    logger.write("error", `uncaught exception, the environment ends: ${stackOf(error)}`);
  });
  // A promise that a handler did not wait for fails no call, and ends nothing.
  process.on("unhandledRejection", (reason) => {
    logger.write("error", `unhandled rejection: ${stackOf(reason)}`);
  });

  const begin = (): void => {
    channel.send(Kind.ready, 0, native.layout.protocol);
    channel.listen((most) => dispatcher.drain(most), options.spinUs);
    let last: Promise<unknown> = Promise.resolve();
    kept.open((name, text) => {
      // Each in a message of its own, and none that is too large for one: that is compiled again.
      if (text.length * MOST_BYTES_A_CHARACTER > options.maxMessageBytes) return;
      last = last
        .then(() => questions.ask(["keep", name, text]))
        .catch((error: unknown) => {
          logger.write("warn", `${name} will be made again: ${messageOf(error)}`);
        });
    });
    if (options.reloadFile !== "") watchFile(options.reloadFile, ask);
    if (options.watch) {
      watchFolders([options.modules, options.plugins], () => reloader.files(), ask);
    }
  };
  if (options.stalledAt !== "") {
    logger.write("error", `the handler that stalled:\n${describeStall(options.stalledAt)}`);
  }
  if (options.plugins === "" || !options.preload) {
    begin();
    return;
  }
  // Loading keeps this thread busy, and filters do not wait long: so before the first call, but
  // one that does not come to an end must not keep all others away.
  const late = new Promise((resolve) => setTimeout(resolve, MOST_PRELOAD_MS).unref());
  void Promise.race([plugins.preload(logger), late]).then(begin);
}
