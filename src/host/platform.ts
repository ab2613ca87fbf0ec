/**
 * What npm packages expect of a Node and an older one has not: Debian's Node 18 has no global crypto,
 * and a fetch whose Headers join Set-Cookie fields into one.
 *
 * Thread: the environment's own.
 */
import { webcrypto } from "node:crypto";
import type * as Undici from "undici";

const FETCH = [
  "fetch",
  "Headers",
  "Request",
  "Response",
  "FormData",
  "File",
] as const satisfies readonly (keyof typeof Undici)[];

function define(name: string, value: unknown): void {
  Object.defineProperty(globalThis, name, {
    value,
    configurable: true,
    writable: true,
    enumerable: false,
  });
}

export function completePlatform(): void {
  if ((globalThis as { crypto?: unknown }).crypto === undefined) define("crypto", webcrypto);
  if ("getSetCookie" in Headers.prototype) return;
  // eslint-disable-next-line @typescript-eslint/no-require-imports -- bundled, and run only here
  const undici = require("undici") as typeof Undici;
  for (const name of FETCH) define(name, undici[name]);
}
