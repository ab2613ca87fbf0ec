/**
 * The head of a message: docs/http-protocol.md. Read where and when it is needed: most handlers look
 * at little of it.
 *
 * Thread: the environment's own. Invariant: `bytes` are ours alone, a copy and not the ring's.
 */

export const PhaseNumber = {
  rewrite: 1,
  access: 2,
  content: 3,
  headerFilter: 4,
  bodyFilter: 5,
  log: 6,
} as const;

export const HeadFlag = { last: 1, https: 2, internal: 4, continues: 8 } as const;

export const HEAD_BYTES = 40;
export const NO_ARGS = 0xffffffff;

/** The five texts, in their order. */
export const HeadText = { method: 0, requestUri: 1, uri: 2, args: 3, remoteAddress: 4 } as const;
const TEXTS = 5;

const latin1Slice = (
  Buffer.prototype as unknown as Record<
    "latin1Slice",
    (this: Uint8Array, from: number, to: number) => string
  >
).latin1Slice;

/** name, value, name, value, … */
export type FlatFields = string[];

export class Head {
  readonly bytes: Uint8Array;
  readonly phase: number;
  readonly flags: number;
  readonly token: number;
  readonly requestId: number;

  /** @throws {RangeError} when it is shorter than a head is. */
  constructor(bytes: Uint8Array) {
    if (bytes.length < HEAD_BYTES) throw new RangeError(`a head of ${bytes.length} bytes`);
    this.bytes = bytes;
    this.phase = bytes[0]!;
    this.flags = bytes[2]!;
    this.token = this.u32(4);
    this.requestId = this.u32(8);
  }

  get httpVersion(): string {
    const version = this.bytes[1]!;
    return `${Math.trunc(version / 10)}.${version % 10}`;
  }

  get status(): number {
    return this.u16(16);
  }

  /** One of the five texts, a byte string; undefined: no args. */
  text(which: number): string | undefined {
    const length = this.u32(20 + 4 * which);
    if (length === NO_ARGS) return undefined;
    let from = this.#textsStart();
    for (let i = 0; i < which; i++) from += this.#textLength(i);
    return this.#slice(from, from + length);
  }

  requestFields(): FlatFields {
    return this.#fields(0, this.u16(12), this.#fieldsStart());
  }

  responseFields(): FlatFields {
    const before = this.u16(12);
    let start = this.#fieldsStart();
    for (let i = 0; i < 2 * before; i++) start += this.u32(HEAD_BYTES + 4 * i);
    return this.#fields(before, this.u16(14), start);
  }

  #fields(first: number, count: number, start: number): FlatFields {
    const fields: FlatFields = [];
    let length = 0;
    let at = HEAD_BYTES + 8 * first;
    for (let i = 0; i < 2 * count; i++, at += 4) length += this.u32(at);
    // One text that all are slices of: one crossing to C++.
    const all = this.#slice(start, start + length);
    let from = 0;
    at = HEAD_BYTES + 8 * first;
    for (let i = 0; i < 2 * count; i++, at += 4) {
      const to = from + this.u32(at);
      fields.push(all.slice(from, to));
      from = to;
    }
    return fields;
  }

  #textsStart(): number {
    return HEAD_BYTES + 8 * (this.u16(12) + this.u16(14));
  }

  #fieldsStart(): number {
    let start = this.#textsStart();
    for (let i = 0; i < TEXTS; i++) start += this.#textLength(i);
    return start;
  }

  #textLength(which: number): number {
    const length = this.u32(20 + 4 * which);
    return length === NO_ARGS ? 0 : length;
  }

  #slice(from: number, to: number): string {
    if (to > this.bytes.length) throw new RangeError("a head that ends before its texts");
    return latin1Slice.call(this.bytes, from, to);
  }

  private u16(at: number): number {
    return this.bytes[at]! | (this.bytes[at + 1]! << 8);
  }

  private u32(at: number): number {
    const b = this.bytes;
    if (at + 4 > b.length) throw new RangeError("a head that ends before its lengths");
    return (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0;
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
  readonly requestFields: FlatFields;
  readonly responseFields?: FlatFields;
}

/** What Lua does in nginx: for resty-ts/testing, and tests. */
export function encodeHead(parts: HeadParts): Uint8Array {
  const responseFields = parts.responseFields ?? [];
  const texts = [parts.method, parts.requestUri, parts.uri, parts.args, parts.remoteAddress];
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
  texts.forEach((text, i) => head.writeUInt32LE(text?.length ?? NO_ARGS, 20 + 4 * i));
  fields.forEach((text, i) => head.writeUInt32LE(text.length, HEAD_BYTES + 4 * i));
  let at = HEAD_BYTES + 4 * fields.length;
  for (const text of [...texts, ...fields]) at += head.write(text ?? "", at, "latin1");
  return new Uint8Array(head.buffer, head.byteOffset, head.length);
}
