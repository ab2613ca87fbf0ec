/**
 * The host as a program: `node host.cjs --addon resty_ts.node --link 3`, started by
 * native/runtime/process.c with a socket to its worker as descriptor 3.
 *
 * Thread: the process's main one. Invariant: a host without a worker ends; one that does not come up
 * tells the worker why.
 */
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { stackOf } from "./describe.js";
import { main, type Binding } from "./main.js";

/** native/addon/link.h */
interface Link {
  readonly channel: unknown;
  readonly settings: Uint8Array;
  tell(kind: number, value: number, text?: string): void;
  listen(onEnd: () => void): void;
}

interface ProgramBinding extends Binding {
  readonly Link: new (fd: number) => Link;
}

/** As in native/channel/link.h. */
const TELL_NODE = 4;
const TELL_READY = 5;
const TELL_FAILED = 6;

const LEAST_NODE = 18;
/** As in native/include/rts_errors.h. */
const NO_NODE = 30;
const UNAVAILABLE = 3;

export function runProgram(args: string[]): void {
  const { values } = parseArgs({
    args,
    options: { addon: { type: "string" }, link: { type: "string" } },
  });
  const load = createRequire(import.meta.url);
  const binding = load(values.addon ?? "./resty_ts.node") as ProgramBinding;
  const link = new binding.Link(Number(values.link));
  const fail = (code: number, text: string): never => {
    link.tell(TELL_FAILED, code, text);
    process.exit(1);
  };
  if (Number.parseInt(process.versions.node) < LEAST_NODE) {
    fail(NO_NODE, `${process.execPath} is ${process.version}, it takes Node ${LEAST_NODE}`);
  }
  link.tell(TELL_NODE, Number(process.versions.modules), process.version);
  try {
    main(binding, link.channel, link.settings);
  } catch (error) {
    fail(UNAVAILABLE, stackOf(error));
  }
  link.listen(() => process.exit(0));
  link.tell(TELL_READY, 0);
}
