/**
 * What npm packages expect of a Node and an older one has not: Debian's Node 18 has no global crypto,
 * a fetch whose Headers join Set-Cookie fields into one, and tries only the first address of a name.
 *
 * Thread: the environment's own.
 */
import { webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import * as net from "node:net";
import type * as Undici from "undici";
import { knowBodies } from "../http/codings.js";

const FETCH = [
  "fetch",
  "Headers",
  "Request",
  "Response",
  "FormData",
  "File",
] as const satisfies readonly (keyof typeof Undici)[];

type Global = Record<string, unknown>;

function define(name: string, property: PropertyDescriptor): void {
  Object.defineProperty(globalThis, name, { configurable: true, enumerable: false, ...property });
}

/** Has `load` run, which takes 30 ms, at the first look at one of these globals, for those not set since. */
function beforeFirstLook(names: readonly string[], load: (names: Iterable<string>) => void): void {
  const absent = { value: undefined, writable: true };
  const own = new Map(
    names.map((name) => [name, Object.getOwnPropertyDescriptor(globalThis, name) ?? absent]),
  );
  for (const name of names) {
    define(name, {
      get: (): unknown => {
        for (const [other, property] of own) define(other, property);
        load(own.keys());
        return (globalThis as Global)[name];
      },
      set: (value: unknown) => {
        own.delete(name);
        define(name, { value, writable: true });
      },
    });
  }
}

/** Replaces fetch and its classes by undici's, of which the host has a copy beside it. */
function bringFetch(names: Iterable<string>): void {
  const undici = createRequire(import.meta.url)("./undici.cjs") as Global;
  for (const name of names) define(name, { value: undici[name], writable: true });
}

export function completePlatform(): void {
  if ((globalThis as { crypto?: unknown }).crypto === undefined) {
    define("crypto", { value: webcrypto, writable: true });
  }
  // Of Node's version, as a look at Headers would load Node's own fetch. It has getSetCookie since
  // 18.14.1 where it is Node's own undici, but not in Debian, which has another one.
  const isOld = process.versions.node.startsWith("18.");
  // As later Nodes do: "localhost" is ::1 first in many an /etc/hosts, and its server at 127.0.0.1.
  if (isOld) (net as Partial<typeof net>).setDefaultAutoSelectFamily?.(true);
  beforeFirstLook(isOld ? FETCH : ["fetch", "Response"], (names) => {
    if (isOld) bringFetch(names);
    knowBodies(Response.prototype);
  });
}
