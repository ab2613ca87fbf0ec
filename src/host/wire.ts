/**
 * Constants of docs/wire-format.md, as record.h has them for C and wire.lua for Lua.
 * test/conformance compares the three.
 */

/** Bytes of a record's header. */
export const HEADER_BYTES = 24;

export const Kind = {
  call: 1,
  notify: 2,
  cancel: 3,
  module: 4,
  function: 5,
  chunk: 6,
  result: 16,
  error: 17,
  ready: 18,
  log: 19,
  ask: 20,
  wait: 21,
  logged: 22,
} as const;

export const FLAG_MORE = 1;

export { MAX_DEPTH, MAX_ELEMENTS } from "../http/carried.js";

export const LogLevel = { error: 1, warn: 2, notice: 3, info: 4, debug: 5 } as const;
export type LogLevelName = keyof typeof LogLevel;
