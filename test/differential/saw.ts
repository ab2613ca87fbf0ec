/** What a plugin sees of a request is what the client has sent, and what nginx makes of it. */
import { isDeepStrictEqual } from "node:util";
import { argumentsOf } from "./edits.ts";
import type { Head } from "./heads.ts";
import { type Message, parseHead, valuesOf } from "./raw.ts";

export interface Saw {
  readonly method: string;
  readonly path: string;
  readonly query: readonly [string, string][];
  readonly fields: readonly [string, string][];
  readonly cookie: string | null;
}

const utf8 = (bytes: string): string => Buffer.from(bytes, "latin1").toString("utf8");
const trim = (value: string): string => value.replace(/^[ \t]+|[ \t]+$/g, "");

/** @param directives of nginx's server: which names it passes over. */
function isPassed(name: string, directives: string): boolean {
  if (directives.includes("ignore_invalid_headers off")) return true;
  return (directives.includes("underscores_in_headers on") ? /^[\w-]+$/ : /^[A-Za-z0-9-]+$/).test(
    name,
  );
}

/** Undoes ngx.escape_uri. */
const unescape = (text = ""): string =>
  text.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));

/**
 * @param sent the request's bytes.
 * @param state X-State of the response without a plugin.
 * @returns what the plugin should have seen.
 */
export function rightView(head: Head, sent: string, state: string, directives: string): Saw {
  const [uri, , args] = state.split(" ");
  const all: Message = parseHead(sent)!;
  const fields = all.fields
    .filter(([name]) => isPassed(name, directives))
    .map(([name, value]): [string, string] => [name, trim(value)]);
  const cookies = valuesOf({ ...all, fields }, "cookie");
  return {
    method: head.method,
    path: utf8(unescape(uri)),
    query: argumentsOf(unescape(args)).map(([name, value]) => [utf8(name), utf8(value)]),
    fields,
    cookie: cookies.length === 0 ? null : cookies.join("; "),
  };
}

/** @returns what is wrong with it, or undefined. */
export function judge(saw: Saw, right: Saw): string | undefined {
  for (const key of Object.keys(right) as (keyof Saw)[]) {
    const seen =
      key === "fields" ? saw.fields.map(([name, value]) => [name, trim(value)]) : saw[key];
    if (isDeepStrictEqual(seen, right[key])) continue;
    return `${key}: it saw ${JSON.stringify(seen)}, and should have seen ${JSON.stringify(right[key])}`;
  }
  return undefined;
}
