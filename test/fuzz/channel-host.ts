/**
 * In the place of the host in the process runtime: it speaks the channel's protocol and keeps to
 * nothing: records at random, floods, pauses, and at the end of a life something that ends it.
 * channel.ts bundles it, and has the worker start it.
 *
 * All that it does comes from the seed and the environment's number; when it does so does not.
 */
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { Channel, type NativeChannel, type RecordHeader } from "../../src/host/channel.ts";
import { encode } from "../../src/host/codec.ts";
import { decode } from "../../src/host/decode.ts";
import { Kind } from "../../src/host/wire.ts";
import { makeValue } from "./make.ts";
import { Random } from "./random.ts";

interface Link {
  readonly channel: unknown;
  readonly settings: Uint8Array;
  tell(kind: number, value: number, text?: string): void;
  listen(onEnd: () => void): void;
}

/** As in native/channel/link.h. */
const TELL_NODE = 4;
const TELL_READY = 5;

const { values } = parseArgs({
  args: process.argv.slice(2),
  allowPositionals: true,
  options: {
    addon: { type: "string", default: "" },
    link: { type: "string", default: "" },
    seed: { type: "string", default: "0" },
  },
});
const binding = createRequire(import.meta.url)(values.addon) as {
  readonly Link: new (fd: number) => Link;
  readonly Channel: new (channel: unknown) => NativeChannel;
};
const link = new binding.Link(Number(values.link));
const { life } = decode(link.settings, 0, link.settings.length) as { life: number };
const random = new Random(Math.imul(Number(values.seed), 7919) + life);
link.tell(TELL_NODE, 1 + random.below(200), "v99");
const native = new binding.Channel(link.channel);
const { layout } = native;
const words = new Int32Array(native.memory);
const channel = new Channel(native);
const now = (): number => performance.now();

/** More than so many messages do not wait for room. */
const MOST_WAITING = 64;
const NIL = Uint8Array.of(0xc0);
const KINDS = Object.values(Kind);
const WORDS = [0, 1, 7, 8, 24, 4096, 0x7fffffff, -1, -8, -0x80000000];
const CURSORS = ["sqHead", "sqBegun", "sqRoom", "cqTail", "cqSleep", "cqRoom"] as const;

/** Calls that wait for an answer. */
let pending: number[] = [];

function onRecord(record: RecordHeader): void {
  if (record.kind === Kind.call && !record.more) pending.push(record.id);
  if (record.kind === Kind.chunk && !record.more && !pending.includes(record.id)) {
    pending.push(record.id);
  }
  if (record.kind === Kind.cancel && pending.includes(record.id)) answer(record.id, NIL);
}

function answer(id: number, payload: Uint8Array): void {
  pending = pending.filter((one) => one !== id);
  channel.send(Kind.result, id, 0, payload);
}

const bytes = (most: number): Uint8Array =>
  Uint8Array.from({ length: random.below(most) }, () => 32 + random.below(95));

/** Does something `times` times, as long as it finds room. */
function many(times: number, one: () => void): void {
  for (let i = random.below(times); i >= 0 && channel.waiting < MOST_WAITING; i--) one();
}

function answerSome(make: (id: number) => void): void {
  for (const id of pending.slice(random.below(4))) make(id);
}

/** What a host may do, in one turn of its loop; any number of times. */
const MANNERS: Record<string, () => void> = {
  answers() {
    answerSome((id) => {
      answer(id, NIL);
    });
  },
  values() {
    answerSome((id) => {
      answer(id, encode([random.u32(), "x".repeat(random.below(2000)), { a: [null] }]));
    });
  },
  errors() {
    answerSome((id) => {
      pending = pending.filter((one) => one !== id);
      channel.send(Kind.error, id, random.below(50), bytes(300));
    });
  },
  large() {
    const id = pending[0];
    if (id !== undefined) answer(id, encode("x".repeat(random.below(900_000))));
  },
  waits() {
    many(200, () => {
      if (pending.length > 0) channel.send(Kind.wait, random.pick(pending), random.below(2));
    });
  },
  logs() {
    many(500, () => {
      channel.send(Kind.log, 0, 1 + random.below(5), bytes(random.once(20) ? 16_000 : 200));
    });
  },
  asks() {
    many(100, () => {
      const word = random.pick(["keep", "shared", "reload", "nothing", "__index"]);
      const words = [
        word,
        `name ${String(random.below(3))}`,
        random.pick(["get", "set", "x"]),
        "k",
      ];
      channel.send(Kind.ask, 0, random.u32(), encode([words, words]));
    });
  },
  ready() {
    many(50, () => {
      channel.send(Kind.ready, 0, layout.protocol);
    });
  },
  bells() {
    many(2000, () => {
      native.wake(layout.cqSleep, 1);
    });
  },
  links() {
    many(50, () => {
      link.tell(random.below(12), random.u32(), "nonsense");
    });
  },
  room() {
    // Asks to be woken, whether it waits or not.
    Atomics.or(words, layout.cqRoom, 1);
  },
  pauses() {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, random.below(100));
  },
  nothing() {
    // Answers come late, or not at all.
  },
};

/** What ends a life, sooner or later. */
const ENDS: Record<string, () => void> = {
  kinds() {
    channel.send(random.pick([...KINDS, 99, 255]), random.u32(), random.u32(), bytes(3000));
  },
  strangers() {
    channel.send(random.pick([Kind.result, Kind.error, Kind.wait]), random.u32(), 0, NIL);
  },
  values() {
    for (const id of pending) answer(id, Uint8Array.from(makeValue(random)));
  },
  logged() {
    channel.send(Kind.logged, random.u32(), random.u32());
  },
  garbage() {
    const tail = Atomics.load(words, layout.cqTail);
    const at = layout.cqOffset + (tail & (layout.ringBytes - 1));
    for (let i = 0; i < 64; i++) channel.bytes[at + i] = random.below(256);
    Atomics.store(words, layout.cqTail, tail + 8 * random.below(8));
    native.wake(layout.cqSleep, 1);
  },
  header() {
    const tail = Atomics.load(words, layout.cqTail);
    const at = (layout.cqOffset + (tail & (layout.ringBytes - 1))) >>> 2;
    for (let i = 0; i < 6; i++)
      words[at + i] = random.once(2) ? random.pick(WORDS) : random.below(99);
    Atomics.store(words, layout.cqTail, tail + 24);
    native.wake(layout.cqSleep, 1);
  },
  cursors() {
    const word = layout[random.pick(CURSORS)];
    Atomics.store(words, word, random.once(2) ? random.pick(WORDS) : random.u32() | 0);
    native.wake(layout.cqSleep, 1);
  },
  // The cursor moves all the time.
  races() {
    const tail = Atomics.load(words, layout.cqTail);
    for (const end = now() + 50; now() < end;) {
      Atomics.store(words, layout.cqTail, (tail + 8 * random.below(40)) | 0);
      native.wake(layout.cqSleep, 1);
    }
  },
  exit: () => process.exit(random.below(3)),
  kill: () => process.kill(process.pid, "SIGKILL"),
  stall() {
    for (;;);
  },
};

link.tell(TELL_READY, 0);
link.listen(() => process.exit(0));
channel.send(Kind.ready, 0, layout.protocol);
native.listen((most) => channel.drain(onRecord, most), random.pick([0, 20]));

// Those that end soon are followed less and less often.
const end = now() + (random.once(8) ? random.below(500) : 1100 + random.below(3000));
const names = Object.keys(MANNERS);
let manner = "answers";
let until = 0;

function turn(): void {
  if (now() >= until) {
    manner = random.pick(names);
    until = now() + random.below(400);
  }
  if (now() < end) MANNERS[manner]!();
  else ENDS[random.pick(Object.keys(ENDS))]!();
  if (random.once(3)) setTimeout(turn, random.below(5));
  else setImmediate(turn);
}
turn();
