/**
 * What npm packages expect of a Node and an older one has not: Debian's Node 18 has no global crypto,
 * and a fetch whose Headers join Set-Cookie fields into one.
 *
 * Thread: the environment's own.
 */
import { webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import type * as Undici from "undici";

const FETCH = [
  "fetch",
  "Headers",
  "Request",
  "Response",
  "FormData",
  "File",
] as const satisfies readonly (keyof typeof Undici)[];

function define(name: string, property: PropertyDescriptor): void {
  Object.defineProperty(globalThis, name, { configurable: true, enumerable: false, ...property });
}

/**
 * Replaces fetch and its classes by undici's, of which the host has a copy beside it. It takes 30 ms
 * to load: so with the first look at one of them, and all of them together.
 */
function bringFetch(): void {
  let loading = false;
  const load = (): void => {
    loading = true;
    const undici = createRequire(import.meta.url)("./undici.cjs") as typeof Undici;
    for (const name of FETCH) define(name, { value: undici[name], writable: true });
  };
  for (const name of FETCH) {
    const own = Object.getOwnPropertyDescriptor(globalThis, name);
    define(name, {
      get: (): unknown => {
        // undici itself looks at some of them while it loads.
        if (loading) return own?.get === undefined ? own?.value : own.get.call(globalThis);
        load();
        return (globalThis as Record<string, unknown>)[name];
      },
      set: (value: unknown) => {
        define(name, { value, writable: true });
      },
    });
  }
}

export function completePlatform(): void {
  if ((globalThis as { crypto?: unknown }).crypto === undefined) {
    define("crypto", { value: webcrypto, writable: true });
  }
  // Of Node's version, as a look at Headers would load Node's own fetch. It has getSetCookie since
  // 18.14.1 where it is Node's own undici, but not in Debian, which has another one.
  if (process.versions.node.startsWith("18.")) bringFetch();
}
