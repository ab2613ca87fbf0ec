/**
 * Makes inputs for the decoders: streams of records with values in them, well formed at first and then
 * damaged, and mutants of the corpus.
 *
 * An input, as test/fuzz/record_fuzz.c reads it: the reader's cursor and what is published, u32 each,
 * little endian, and the bytes from that cursor on. `published` says nothing but where it is no
 * multiple of 8: then it is a cursor that lies.
 */
import { Kind } from "../../src/host/wire.ts";
import type { Random } from "./random.ts";

export const RING_BYTES = 4096;
export const INPUT_HEAD = 8;
export const MAX_PAYLOAD = RING_BYTES / 4 - 24;

const KINDS = Object.values(Kind);
const LENGTHS = [0, 1, 7, 8, 23, 24, 999, 1000, 1001, 4096, 0xffff, 0x7fffffff];
const WORDS = [...LENGTHS, 0x80000000, 0xfffffff0, 0xfffffff8, 0xffffffff];
const CURSORS = [0, 8, 4088, 0xfffff000, 0xfffffff8, 0x7ffffff8];
const DOUBLES = [0, -0, 1, -1, 0.1, 2 ** 53, NaN, Infinity, 5e-324];
const TEXTS = ["", "a", "__proto__", "constructor", "length", "\u00e9\u20ac\u{1f600}", "\ufeffx"];

/** Head bytes for a length, in one of the forms that MessagePack has for it. */
function sized(random: Random, length: number, forms: readonly [number, number][]): number[] {
  const fitting = forms.filter(([, width]) => width === 4 || length < 2 ** (8 * width));
  const [code, width] = random.pick(fitting);
  const claimed = random.once(200) ? random.pick(WORDS) : length;
  const out = [code];
  for (let shift = 8 * (width - 1); shift >= 0; shift -= 8) out.push((claimed >>> shift) & 255);
  return out;
}

function text(random: Random): number[] {
  const content = random.once(20)
    ? [...Array(random.below(12)).keys()].map(() => random.below(256))
    : [...Buffer.from(random.pick(TEXTS).repeat(random.once(9) ? 40 : 1))];
  if (content.length < 32 && !random.once(4)) return [0xa0 | content.length, ...content];
  const forms: [number, number][] = [
    [0xd9, 1],
    [0xda, 2],
    [0xdb, 4],
  ];
  return [...sized(random, content.length, forms), ...content];
}

function number(random: Random): number[] {
  switch (random.below(6)) {
    case 0:
      return [random.below(128)];
    case 1:
      return [0xe0 | random.below(32)];
    case 2: {
      const bytes = Buffer.alloc(9, 0xcb);
      bytes.writeDoubleBE(random.pick(DOUBLES), 1);
      return [...bytes];
    }
    default: {
      const code = random.pick([0xcc, 0xcd, 0xce, 0xcf, 0xd0, 0xd1, 0xd2, 0xd3]);
      const width = 1 << (code & 3);
      return [code, ...Array.from({ length: width }, () => random.pick([0, 1, 127, 128, 255]))];
    }
  }
}

/** One value as MessagePack, mostly well formed. */
export function makeValue(random: Random, depth = 0): number[] {
  const kind = random.below(depth > 4 ? 6 : 9);
  if (kind < 2) return number(random);
  if (kind === 2) return text(random);
  if (kind === 3) return [random.pick([0xc0, 0xc2, 0xc3])];
  if (kind === 4) return random.once(30) ? [random.below(256)] : number(random);
  if (kind === 5) {
    const content = Array.from({ length: random.below(9) }, () => random.below(256));
    const forms: [number, number][] = [
      [0xc4, 1],
      [0xc5, 2],
      [0xc6, 4],
    ];
    return [...sized(random, content.length, forms), ...content];
  }
  if (kind === 6 && random.once(20)) {
    // As deep as may be, and a little more.
    const levels = 96 + random.below(8);
    return [...Array<number>(levels).fill(0x91), ...makeValue(random, 9)];
  }
  const count = random.below(5);
  const isMap = random.once(2);
  const items = Array.from({ length: count }, () => {
    const item = makeValue(random, depth + 1);
    if (!isMap) return item;
    return [...(random.once(30) ? makeValue(random, 5) : text(random)), ...item];
  });
  const [small, form] = isMap ? [0x80, 0xde] : [0x90, 0xdc];
  const forms: [number, number][] = [
    [form, 2],
    [form + 1, 4],
  ];
  const head = random.once(5) ? sized(random, count, forms) : [small | count];
  return [...head, ...items.flat()];
}

function record(words: readonly number[], payload: readonly number[]): Buffer {
  const bytes = Buffer.alloc(24 + ((payload.length + 7) & ~7));
  words.forEach((word, i) => bytes.writeUInt32LE(word >>> 0, 4 * i));
  bytes.set(payload, 24);
  return bytes;
}

function makeMessage(random: Random): Buffer[] {
  const kind = random.pick(KINDS);
  const id = random.pick([0, 1, 0x10001, 0xffff0003]);
  const a = random.once(9) ? random.pick(WORDS) : random.below(3);
  const b = random.once(9) ? random.pick(WORDS) : random.below(3);
  const payload =
    kind === Kind.module || kind === Kind.function
      ? [...Buffer.from(random.pick(["echo", "later", "boom"]))]
      : makeValue(random);
  const parts: number[][] = [];
  const pieces = random.once(5) ? 1 + random.below(4) : 1;
  const each = Math.min(MAX_PAYLOAD, Math.ceil(payload.length / pieces) + 1);
  for (let at = 0; at === 0 || at < payload.length; at += each) {
    parts.push(payload.slice(at, at + each));
  }
  return parts.map((part, i) => {
    const more = i < parts.length - 1 ? 256 : 0;
    const total = i > 0 ? 0 : payload.length;
    const words = [part.length, (i > 0 ? Kind.chunk : kind) | more, id, a, b, total];
    if (random.once(25)) words[random.below(6)] = random.pick(WORDS);
    if (random.once(40)) words[1] = words[1]! ^ (1 << random.below(32));
    return record(words, part);
  });
}

/** An input of whole records, some of them wrong. */
export function makeInput(random: Random): Buffer {
  const head = Buffer.alloc(INPUT_HEAD);
  head.writeUInt32LE(random.pick(CURSORS));
  if (random.once(100)) head.writeUInt32LE((random.u32() | 1) >>> 0, 4);
  let records = Array.from({ length: 1 + random.below(5) }, () => makeMessage(random)).flat();
  if (random.once(4)) records = records.filter(() => !random.once(4));
  return Buffer.concat([head, ...records]).subarray(0, INPUT_HEAD + RING_BYTES);
}

/** A copy of `from` that is damaged in a few places; `other` is what it may be spliced with. */
export function mutate(random: Random, from: Buffer, other: Buffer): Buffer {
  let bytes = Buffer.from(from);
  for (let left = 1 + random.below(4); left > 0; left--) {
    if (bytes.length <= INPUT_HEAD) return makeInput(random);
    const at = random.below(bytes.length);
    const word = at & ~3;
    switch (random.below(8)) {
      case 0:
        bytes[at]! ^= 1 << random.below(8);
        break;
      case 1:
        bytes[at] = random.below(256);
        break;
      case 2:
        if (word + 4 <= bytes.length) bytes.writeUInt32LE(random.pick(WORDS), word);
        break;
      case 3:
        if (word + 4 <= bytes.length) bytes.writeUInt32BE(random.pick(WORDS), word);
        break;
      case 4: {
        const cut = Math.min(bytes.length - at, random.pick([1, 8, 24, 32, 40]));
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + cut)]);
        break;
      }
      case 5:
        bytes = Buffer.concat([bytes.subarray(0, at), Buffer.from(makeValue(random)), bytes.subarray(at)]); // prettier-ignore
        break;
      case 6:
        bytes = Buffer.concat([bytes.subarray(0, at & ~7), other.subarray(INPUT_HEAD + random.below(other.length) & ~7)]); // prettier-ignore
        break;
      default:
        bytes[at] = random.pick([0x80, 0x90, 0xa0, 0xc1, 0xc4, 0xc6, 0xca, 0xdb, 0xdd, 0xdf, 0xff]);
    }
  }
  return bytes.subarray(0, INPUT_HEAD + RING_BYTES);
}
