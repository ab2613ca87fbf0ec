/**
 * The host's decoders on one input: channel.ts and dispatcher.ts on a real mapping, codec.ts,
 * http-codec.ts and head.ts on its bytes.
 *
 * Invariant checked: what cannot be is a ProtocolError, a DecodeError or, in a head, a RangeError;
 * a record that is handed out lies within what is published.
 */
import assert from "node:assert/strict";
import { Channel, ProtocolError } from "../../src/host/channel.ts";
import { decodeArguments, DecodeError } from "../../src/host/codec.ts";
import { Dispatcher } from "../../src/host/dispatcher.ts";
import { decodeRun } from "../../src/host/http-codec.ts";
import { Logger } from "../../src/host/log.ts";
import type { ModuleLoader } from "../../src/host/modules.ts";
import { HEADER_BYTES } from "../../src/host/wire.ts";
import { Head } from "../../src/http/head.ts";
import { LuaSide, newNative } from "../ts/lua-side.ts";
import { RING_BYTES } from "./make.ts";
import { type Input, MAX_MESSAGE_BYTES, parse, show } from "./model.ts";

const native = newNative(RING_BYTES);

const handlers = {
  add: (...values: unknown[]) => values,
  echo: (value: unknown) => value,
  later: (value: unknown) => Promise.resolve(value),
  boom: () => {
    throw new Error("boom");
  },
};
const loader = {
  load: (name: string) =>
    name === "boom" ? Promise.reject(new Error("no such module")) : Promise.resolve(handlers),
  builtIn: () => undefined,
} as unknown as ModuleLoader;

function submit({ head, published, bytes }: Input): Channel {
  const lua = new LuaSide(native);
  lua.startAt(head);
  lua.submit(bytes, published);
  return new Channel(native);
}

/** True when what is there is refused. */
function refused(action: () => unknown, ...errors: (new (text: string) => Error)[]): boolean {
  try {
    action();
    return false;
  } catch (error) {
    if (errors.some((one) => error instanceof one)) return true;
    throw error;
  }
}

function drainAlone(input: Input): string {
  const channel = submit(input);
  const { sqOffset } = native.layout;
  const first = sqOffset + (input.head & (RING_BYTES - 1));
  let at = first;
  let count = 0;
  const isRefused = refused(() => {
    channel.drain(({ offset, length, kind, more }) => {
      // Twice in a row: what is past the ring's end is at its beginning, too.
      const back = at >= sqOffset + RING_BYTES ? RING_BYTES : 0;
      assert.equal(offset, at - back + HEADER_BYTES);
      at = at - back + HEADER_BYTES + ((length + 7) & ~7);
      const there = input.bytes.readUInt32LE(4 + countedBefore);
      assert.equal(kind | (more ? 256 : 0), there & 0x1ff);
      countedBefore += HEADER_BYTES + ((length + 7) & ~7);
      assert.ok(countedBefore <= input.published);
      count++;
    });
  }, ProtocolError);
  return isRefused ? "broken" : String(count);
}
let countedBefore = 0;

function dispatch(input: Input): string {
  const channel = submit(input);
  const logger = new Logger(channel, MAX_MESSAGE_BYTES);
  const options = { maxMessageBytes: MAX_MESSAGE_BYTES };
  const dispatcher = new Dispatcher(channel, loader, logger, options);
  return refused(() => dispatcher.drain(), ProtocolError) ? "broken" : "handled";
}

function readHead(bytes: Buffer): string {
  let text = "no head";
  refused(() => {
    const head = new Head(bytes);
    text = head.httpVersion + String(head.status);
    for (let i = 0; i < 5; i++) text += String(head.text(i)?.length);
    text += String(head.requestFields().offsets.length);
    text += String(head.responseFields().offsets.length);
  }, RangeError);
  return text === "no head" ? text : "head";
}

/** The arguments of `run` are what decodeArguments makes of them, but for the head. */
function readRun(bytes: Buffer): string {
  let plain: unknown;
  const isRefused = refused(() => (plain = decodeArguments(bytes, 0, bytes.length)), DecodeError);
  const copy = Buffer.from(bytes);
  let run: unknown;
  const runRefused = refused(() => (run = decodeRun(copy, 0, copy.length)), DecodeError);
  if (isRefused || runRefused) {
    assert.equal(runRefused, isRefused);
    return "refused";
  }
  if (
    Array.isArray(run) &&
    run.length === 4 &&
    Array.isArray(plain) &&
    plain[0] instanceof Uint8Array
  ) {
    if (typeof run[0] === "string") run[0] = new Uint8Array(Buffer.from(run[0], "latin1"));
  }
  assert.equal(show(run), show(plain));
  return "value";
}

/** Payloads of the input's records, as far as they lie within it. */
function* payloads({ bytes }: Input): Generator<Buffer> {
  for (let at = 0; at + HEADER_BYTES <= bytes.length;) {
    const length = bytes.readUInt32LE(at);
    if (length > bytes.length - at - HEADER_BYTES) return;
    yield bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + length);
    at += HEADER_BYTES + Math.ceil(length / 8) * 8;
  }
}

/** Runs all; returns a text that says how it went. @throws when an invariant does not hold. */
export function runHost(input: Buffer): string {
  const parsed = parse(input);
  if (parsed === undefined) return "short";
  countedBefore = 0;
  const seen = new Set([drainAlone(parsed), dispatch(parsed), readHead(parsed.bytes)]);
  for (const payload of payloads(parsed)) {
    seen.add(readRun(payload)).add(readHead(payload));
    // As the arguments of `run`, whose head they are.
    const head = Buffer.concat([Buffer.of(0x94, 0xc5, payload.length >> 8, payload.length & 255), payload]); // prettier-ignore
    for (const rest of [[], [0xc0, 0xc0, 0xc0], [0x80, 0xa1, 0x61, 0xc0]]) {
      seen.add(readRun(Buffer.concat([head, Buffer.from(rest)])));
    }
  }
  return [...seen].join(" ");
}
