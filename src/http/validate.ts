/**
 * What HTTP allows a plugin to set (RFC 9110, RFC 9112): checked where it is set, so that the stack
 * shows who did it.
 */
import { isIPv4, isIPv6 } from "node:net";
import { RestyTsError } from "../sdk/errors.js";

/** RFC 9110, 5.6.2. */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Anything that a field's value may not hold: CR, LF, NUL, and what is not one byte. */
const BAD_IN_VALUE = /[\0\r\n]|[^\0-\xff]/;
/** Of almost all values: nothing to refuse and nothing to trim. */
const PLAIN_VALUE = /^[!-~](?:[ -~]*[!-~])?$/;
const NO_BODY = new Set([204, 304]);

export function refuse(text: string): never {
  throw new RestyTsError("bad_response", text);
}

/** The text as an error message may show it. */
export function shown(text: string): string {
  const short = text.length > 60 ? `${text.slice(0, 60)}…` : text;
  return JSON.stringify(short);
}

/** RFC 9110, 5.6.2: a method, or a field's name; nginx passes others, with `ignore_invalid_headers off`. */
export function isToken(text: string): boolean {
  return TOKEN.test(text);
}

export function checkFieldValue(lower: string, value: unknown): string {
  if (typeof value === "number") return String(value);
  if (typeof value !== "string") {
    refuse(`invalid value of ${lower}: expected a string or a number, not a ${typeof value}`);
  }
  if (PLAIN_VALUE.test(value)) return value;
  const bad = BAD_IN_VALUE.exec(value);
  if (bad !== null) {
    const code = bad[0].codePointAt(0)!;
    const what =
      code > 0xff
        ? `a character above U+00FF (encode it: a field's value is bytes)`
        : { 0: "NUL", 10: "LF", 13: "CR" }[code]!;
    refuse(`the value of ${lower} has ${what} at ${bad.index}: ${shown(value)}`);
  }
  return trimmed(value);
}

/** Without optional whitespace (RFC 9110, 5.6.3): other bytes around a value are a part of it. */
export function trimmed(value: string): string {
  let from = 0;
  let to = value.length;
  while (from < to && isSpace(value.charCodeAt(from))) from++;
  while (to > from && isSpace(value.charCodeAt(to - 1))) to--;
  return value.slice(from, to);
}

function isSpace(code: number): boolean {
  return code === 32 || code === 9;
}

export function checkStatus(status: unknown, least = 200): number {
  if (typeof status !== "number" || !Number.isInteger(status) || status < least || status > 599) {
    refuse(`${String(status)} is no status: an integer from ${least} to 599 is`);
  }
  return status;
}

export function checkBodyAllowed(status: number, bytes: number): void {
  if (bytes > 0 && NO_BODY.has(status)) refuse(`a ${status} response has no body`);
}

/** nginx's: ngx.HTTP_… in Lua. */
export const METHODS: ReadonlySet<string> = new Set([
  ..."GET HEAD PUT POST DELETE OPTIONS MKCOL COPY MOVE PROPFIND PROPPATCH LOCK UNLOCK".split(" "),
  ..."PATCH TRACE".split(" "),
]);

/** @param before the method that it is now. */
export function checkMethod(method: unknown, before: string): string {
  if (typeof method !== "string" || !isToken(method)) {
    refuse(`${shown(String(method))} is no method: it must be a token (RFC 9110)`);
  }
  if (method !== before && !METHODS.has(method)) {
    refuse(`the method cannot be set to ${method}: nginx does not know it`);
  }
  if ((method === "HEAD") !== (before === "HEAD")) {
    // By the method nginx decides whether the client gets a body.
    refuse("the method cannot be changed from or to HEAD");
  }
  return method;
}

export function checkPort(port: unknown): number {
  if (typeof port !== "number" || !Number.isInteger(port) || port < 1 || port > 65_535) {
    refuse(`invalid port ${String(port)}: expected an integer from 1 to 65535`);
  }
  return port;
}

/** @returns the host as nginx wants it: an IPv6 address in brackets. */
export function checkUpstreamHost(host: string, takesNames: boolean): string {
  const bare = host.replace(/^\[(.*)\]$/, "$1");
  if (isIPv6(bare) && !bare.includes("%")) return `[${bare}]`;
  if (!isIPv4(host) && !takesNames) {
    refuse(`invalid upstream address ${shown(host)}: expected an IP address or "unix:/path"`);
  }
  return host;
}
