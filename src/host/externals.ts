/**
 * What is imported as it is: packages, Node's own modules, and .js, .mjs and .cjs files. Node keeps
 * these for as long as the environment lives.
 *
 * Thread: the environment's own.
 */
import { isAbsolute } from "node:path";
import { pathToFileURL } from "node:url";

export type Namespace = Record<string, unknown>;

/** @param what a URL, an absolute path, or the name of one of Node's modules. */
export async function importExternal(what: string): Promise<Namespace> {
  return (await import(isAbsolute(what) ? pathToFileURL(what).href : what)) as Namespace;
}
