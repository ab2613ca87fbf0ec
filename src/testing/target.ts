/** A request's target as nginx reads it. Texts are byte strings. Pure. */

import { hostOf } from "../http/origin.js";
import { byteString, decodePath, resolvePath } from "../http/target.js";

export interface Target {
  readonly scheme: "http" | "https";
  readonly host: string | undefined;
  /** As on the wire: $request_uri. */
  readonly requestUri: string;
  /** Decoded and normalized: $uri. */
  readonly uri: string;
  /** undefined: there is no "?". */
  readonly args: string | undefined;
}

function refuse(what: string, why: string): never {
  throw new TypeError(`nginx answers ${JSON.stringify(what)} itself, with 400: ${why}`);
}

/** ngx_http_parse_complex_uri. */
function normalize(raw: string, url: string): string {
  if (/%(?![0-9a-fA-F]{2})/.test(raw)) refuse(url, "it has a % that is no escape");
  const decoded = decodePath(raw);
  if (decoded.includes("\0")) refuse(url, "it has %00");
  return resolvePath(decoded, true) ?? refuse(url, "it leads above /");
}

/** @param url "/path?query", or with "http://host" before it. @throws {TypeError} */
export function parseTarget(url: string): Target {
  const [, scheme = "http", host, rest = ""] =
    /^(?:(https?):\/\/([^/?#]*))?(.*)$/is.exec(url) ?? [];
  const text = byteString(rest.startsWith("/") ? rest : host === undefined ? rest : `/${rest}`);
  if (!text.startsWith("/")) {
    throw new TypeError(`${JSON.stringify(url)} is neither "/path" nor "http://host/path"`);
  }
  if (/[\0-\x20\x7f]/.test(text)) refuse(url, "it has a space or a control character");
  const [, path = "", args] = /^([^?#]*)(?:\?([^#]*))?/.exec(text) ?? [];
  return {
    scheme: scheme.toLowerCase() as Target["scheme"],
    host,
    requestUri: text,
    uri: normalize(path, url),
    args: args === "" ? undefined : args,
  };
}

/** $host: of an absolute target, else of the Host field. @throws {TypeError} */
export function checkedHost(authority: string): string {
  return hostOf(authority) ?? refuse(authority, "it is no host");
}
