/**
 * What docs/wire-format.md makes of an input: the messages that a reader has to hand out and where it
 * has to stop. drain.lua prints the same.
 */
import { decode, DecodeError } from "../../src/host/codec.ts";
import { HEADER_BYTES, Kind } from "../../src/host/wire.ts";
import { INPUT_HEAD, MAX_PAYLOAD, RING_BYTES } from "./make.ts";

export const MAX_MESSAGE_BYTES = 65_536;

export interface Input {
  /** The reader's cursor. */
  readonly head: number;
  /** How far the writer's is ahead of it. */
  readonly published: number;
  /** What is there, filled up with zeros. */
  readonly bytes: Buffer;
}

/** Undefined: too short to be one. */
export function parse(input: Buffer): Input | undefined {
  if (input.length < INPUT_HEAD) return undefined;
  const content = input.subarray(INPUT_HEAD, INPUT_HEAD + RING_BYTES);
  let published = input.readUInt32LE(4);
  if (published % 8 === 0) published = content.length - (content.length % 8);
  const bytes = Buffer.alloc(Math.min(RING_BYTES, published + ((8 - (published % 8)) % 8)));
  content.copy(bytes);
  return { head: (input.readUInt32LE(0) & ~7) >>> 0, published, bytes };
}

const scratch = new DataView(new ArrayBuffer(8));

function showText(text: string): string {
  return text.includes("\ufffd") ? "?" : Buffer.from(text).toString("hex");
}

/** A value as text. */
export function show(value: unknown): string {
  if (typeof value === "number") {
    if (Number.isNaN(value)) return "nan";
    scratch.setFloat64(0, value);
    return `n${scratch.getBigUint64(0).toString(16).padStart(16, "0")}`;
  }
  if (typeof value === "string") return `s${showText(value)}`;
  if (typeof value === "bigint") return `i${value}`;
  if (typeof value === "boolean" || value === null) return String(value);
  if (value instanceof Uint8Array) return `b${Buffer.from(value).toString("hex")}`;
  if (Array.isArray(value)) return `[${value.map(show).join(",")}]`;
  const parts: string[] = [];
  for (const [key, item] of Object.entries(value as object)) {
    if (showText(key) === "?") return "{?}";
    parts.push(`${showText(key)}=${show(item)}`);
  }
  return `{${parts.sort().join(",")}}`;
}

function showDecoded(payload: Uint8Array): string {
  try {
    return show(decode(payload, 0, payload.length));
  } catch (error) {
    if (error instanceof DecodeError) return "!";
    throw error;
  }
}

function showMessage(kind: number, id: number, a: number, payload: Buffer): string {
  if (kind === Kind.result) return `result:${id}:${showDecoded(payload)}`;
  if (kind === Kind.error) return `error:${id}:${a}:${payload.toString("hex")}`;
  if (kind === Kind.ask) return `ask:${a}:${showDecoded(payload)}`;
  return `${kind}:${a}:${payload.toString("hex")}`;
}

/** What Lua has to say of completions. */
export function expectedOfLua(input: Buffer): string {
  const parsed = parse(input);
  if (parsed === undefined) return "short";
  const { published, bytes } = parsed;
  const seen: string[] = [];
  const broken = () => [...seen, "broken"].join(" ");
  let unfinished: { id: number; kind: number; a: number; total: number; parts: Buffer[] } | undefined; // prettier-ignore
  let count = 0;
  if (published > RING_BYTES) return broken();
  for (let at = 0; at < published; count++) {
    if (published - at < HEADER_BYTES) return broken();
    const word = (i: number) => bytes.readUInt32LE(at + 4 * i);
    const [length, kindWord, id, a, total] = [word(0), word(1), word(2), word(3), word(5)];
    const size = HEADER_BYTES + Math.ceil(length / 8) * 8;
    if (length > MAX_PAYLOAD || size > published - at || kindWord > 0x1ff) return broken();
    const payload = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
    const kind = kindWord & 255;
    at += size;
    if (kindWord <= 255 && kind !== Kind.chunk) {
      seen.push(showMessage(kind, id, a, payload));
      continue;
    }
    if (kind !== Kind.chunk) {
      if (unfinished !== undefined || total > MAX_MESSAGE_BYTES) return broken();
      unfinished = { id, kind, a, total, parts: [] };
    }
    if (unfinished?.id !== id) return broken();
    unfinished.parts.push(payload);
    const whole = Buffer.concat(unfinished.parts);
    if (whole.length > unfinished.total) return broken();
    if (kindWord > 255) continue;
    if (whole.length !== unfinished.total) return broken();
    seen.push(showMessage(unfinished.kind, id, unfinished.a, whole));
    unfinished = undefined;
  }
  return [...seen, String(count)].join(" ");
}
