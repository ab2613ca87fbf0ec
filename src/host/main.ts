/**
 * The host: what runs inside Node, in an nginx worker or beside it. Bundled into dist/host.cjs;
 * native/runtime/embedded.cc calls `main`.
 *
 * Thread: the environment's own. Invariant: nothing that a plugin leaves unhandled is lost: it is
 * in the error log before the environment ends or goes on.
 */
import { Channel, type NativeChannel } from "./channel.js";
import { stackOf } from "./describe.js";
import { Dispatcher, type DispatcherOptions } from "./dispatcher.js";
import { Logger } from "./log.js";
import { ModuleLoader } from "./modules.js";
import { Kind } from "./wire.js";

/** native/addon */
interface Binding {
  readonly Channel: new (external: unknown) => NativeChannel;
  readonly removeAtEnd: (folder: string) => void;
}

export interface HostOptions extends DispatcherOptions {
  /** Absolute path of the folder that modules are loaded from. */
  readonly modules: string;
  /** How long to spin for submissions before sleeping, in µs. */
  readonly spinUs: number;
}

/** Starts the host on a channel; returns when it listens. */
export function main(binding: Binding, external: unknown, options: HostOptions): void {
  process.setSourceMapsEnabled(true);
  const native = new binding.Channel(external);
  const channel = new Channel(native);
  const logger = new Logger(channel, options.maxMessageBytes);
  const loader = new ModuleLoader(options.modules, binding.removeAtEnd);
  const dispatcher = new Dispatcher(channel, loader, logger, options);
  logger.captureConsole();

  process.on("uncaughtExceptionMonitor", (error) => {
    logger.write("error", `uncaught exception, the environment ends: ${stackOf(error)}`);
  });
  // A promise that a handler did not wait for fails no call, and ends nothing.
  process.on("unhandledRejection", (reason) => {
    logger.write("error", `unhandled rejection: ${stackOf(reason)}`);
  });

  channel.send(Kind.ready, 0, native.layout.protocol);
  channel.listen(() => dispatcher.drain(), options.spinUs);
}
