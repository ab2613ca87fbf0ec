/**
 * The head of a message: docs/http-protocol.md. Taken out of the ring as one byte string, and read
 * where and when it is needed: most handlers look at little of it.
 *
 * Thread: the environment's own.
 */
import { hostOf } from "./origin.js";

export const HeadFlag = {
  last: 1,
  https: 2,
  internal: 4,
  continues: 8,
  rewritten: 16,
  apisix: 32,
  unbuffered: 64,
  /** The body must not pass as it came when a filter fails. */
  closed: 128,
} as const;

export const HEAD_BYTES = 48;
const NOT_THERE = 0xffffffff;

/** The texts, in their order. */
export const HeadText = {
  method: 0,
  target: 1,
  uri: 2,
  args: 3,
  remoteAddress: 4,
  host: 5,
  originalTarget: 6,
} as const;
const TEXTS = 7;

/** name, value, name, value, … */
export type FlatFields = string[];

/** Fields where they lie: the i-th text from offsets[i] to offsets[i + 1]; name, value, name, … */
export interface FieldSource {
  readonly text: string;
  readonly offsets: readonly number[];
}

export class Head {
  /** The whole of it, a character for each byte. */
  private readonly bytes: string;
  readonly phase: number;
  readonly flags: number;
  readonly token: number;
  readonly requestId: number;

  /** @throws {RangeError} when it is shorter than a head is. */
  constructor(bytes: string | Uint8Array) {
    this.bytes = typeof bytes === "string" ? bytes : Buffer.from(bytes).toString("latin1");
    if (bytes.length < HEAD_BYTES) throw new RangeError(`a head of ${bytes.length} bytes`);
    this.phase = this.bytes.charCodeAt(0);
    this.flags = this.bytes.charCodeAt(2);
    this.token = this.u32(4);
    this.requestId = this.u32(8);
  }

  get httpVersion(): string {
    const version = this.bytes.charCodeAt(1);
    return `${Math.trunc(version / 10)}.${version % 10}`;
  }

  get status(): number {
    return this.u16(16);
  }

  /** One of the texts, a byte string; undefined: it is not there. */
  text(which: number): string | undefined {
    const length = this.u32(20 + 4 * which);
    if (length === NOT_THERE) return undefined;
    let from = this.textsStart();
    for (let i = 0; i < which; i++) from += this.textLength(i);
    return this.bytes.slice(from, from + length);
  }

  requestFields(): FieldSource {
    return this.fields(0, this.u16(12), this.fieldsStart());
  }

  responseFields(): FieldSource {
    const count = this.u16(14);
    if (count === 0) return { text: "", offsets: [0] };
    const before = this.u16(12);
    let start = this.fieldsStart();
    for (let i = 0; i < 2 * before; i++) start += this.u32(HEAD_BYTES + 4 * i);
    return this.fields(before, count, start);
  }

  private fields(first: number, count: number, start: number): FieldSource {
    const offsets = new Array<number>(2 * count + 1);
    let at = HEAD_BYTES + 8 * first;
    let from = start;
    offsets[0] = start;
    for (let i = 1; i <= 2 * count; i++, at += 4) {
      from += this.u32(at);
      offsets[i] = from;
    }
    if (from > this.bytes.length) throw new RangeError("a head that ends before its fields");
    return { text: this.bytes, offsets };
  }

  /** @throws {RangeError} when it counts more fields than it has room for. */
  private textsStart(): number {
    const start = HEAD_BYTES + 8 * (this.u16(12) + this.u16(14));
    if (start > this.bytes.length) throw new RangeError("a head that ends before its fields");
    return start;
  }

  private fieldsStart(): number {
    let start = this.textsStart();
    for (let i = 0; i < TEXTS; i++) start += this.textLength(i);
    return start;
  }

  private textLength(which: number): number {
    const length = this.u32(20 + 4 * which);
    return length === NOT_THERE ? 0 : length;
  }

  private u16(at: number): number {
    return this.bytes.charCodeAt(at) | (this.bytes.charCodeAt(at + 1) << 8);
  }

  private u32(at: number): number {
    const b = this.bytes;
    const low = b.charCodeAt(at) | (b.charCodeAt(at + 1) << 8);
    return low + (b.charCodeAt(at + 2) | (b.charCodeAt(at + 3) << 8)) * 65_536;
  }
}

/** What encodeHead takes; texts and fields are byte strings. */
export interface HeadParts {
  readonly phase: number;
  readonly httpVersion?: number;
  readonly flags?: number;
  readonly token: number;
  readonly requestId: number;
  readonly status?: number;
  readonly method: string;
  readonly requestUri: string;
  readonly uri: string;
  readonly args?: string | undefined;
  readonly remoteAddress: string;
  /** $host; left out: that of the Host field. */
  readonly host?: string;
  /** What the client sent, when `requestUri` is what a plugin has made of it. */
  readonly originalTarget?: string | undefined;
  readonly requestFields: FlatFields;
  readonly responseFields?: FlatFields;
}

/** What Lua does in nginx: for resty-ts/testing, and tests. */
export function encodeHead(parts: HeadParts): Uint8Array {
  const responseFields = parts.responseFields ?? [];
  const { method, requestUri, uri, args, remoteAddress, originalTarget } = parts;
  const hostAt = parts.requestFields.findIndex((text, i) => i % 2 === 0 && /^host$/i.test(text));
  const host = parts.host ?? hostOf(parts.requestFields[hostAt + 1] ?? "") ?? "";
  const texts = [method, requestUri, uri, args, remoteAddress, host, originalTarget];
  const fields = [...parts.requestFields, ...responseFields];
  const bodyLength = [...texts, ...fields].reduce((sum, text) => sum + (text?.length ?? 0), 0);
  const head = Buffer.alloc(HEAD_BYTES + 4 * fields.length + bodyLength);
  head[0] = parts.phase;
  head[1] = parts.httpVersion ?? 11;
  head[2] = parts.flags ?? 0;
  head.writeUInt32LE(parts.token, 4);
  head.writeUInt32LE(parts.requestId, 8);
  head.writeUInt16LE(parts.requestFields.length / 2, 12);
  head.writeUInt16LE(responseFields.length / 2, 14);
  head.writeUInt16LE(parts.status ?? 0, 16);
  texts.forEach((text, i) => head.writeUInt32LE(text?.length ?? NOT_THERE, 20 + 4 * i));
  fields.forEach((text, i) => head.writeUInt32LE(text.length, HEAD_BYTES + 4 * i));
  let at = HEAD_BYTES + 4 * fields.length;
  for (const text of [...texts, ...fields]) at += head.write(text ?? "", at, "latin1");
  return new Uint8Array(head.buffer, head.byteOffset, head.length);
}
