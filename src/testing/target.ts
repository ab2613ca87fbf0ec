/** URIs as nginx reads and writes them. Texts are byte strings. Pure. */

import { decodePath } from "../http/validate.js";

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

/** A text as the bytes of its UTF-8, one character each. */
export function byteString(text: string): string {
  return Buffer.from(text, "utf8").toString("latin1");
}

function refuse(url: string, why: string): never {
  throw new TypeError(`nginx answers ${JSON.stringify(url)} itself, with 400: ${why}`);
}

/** ngx_http_parse_complex_uri: escapes first, then "//", "." and "..". */
function normalize(raw: string, url: string): string {
  if (/%(?![0-9a-fA-F]{2})/.test(raw)) refuse(url, "it has a % that is no escape");
  const decoded = decodePath(raw);
  if (decoded.includes("\0")) refuse(url, "it has %00");
  const out: string[] = [];
  const segments = decoded.replace(/\/{2,}/g, "/").split("/");
  for (const [i, segment] of segments.entries()) {
    if (segment === "." || segment === "..") {
      if (segment === ".." && out.length < 2) refuse(url, "it leads above /");
      if (segment === "..") out.pop();
      if (i === segments.length - 1) out.push("");
    } else out.push(segment);
  }
  return out.join("/");
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
  const requestUri = text.replace(/#.*$/s, "");
  const at = requestUri.indexOf("?");
  return {
    scheme: scheme.toLowerCase() as Target["scheme"],
    host,
    requestUri,
    uri: normalize(at < 0 ? requestUri : requestUri.slice(0, at), url),
    args: at < 0 ? undefined : requestUri.slice(at + 1),
  };
}

/** ngx_escape_uri with NGX_ESCAPE_URI (nginx 1.21.1 and later). */
export function escapePath(path: string): string {
  return path.replace(
    /[\0-\x20"#%<>?\\^`{|}\x7f-\xff]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  );
}
