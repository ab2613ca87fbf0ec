/**
 * A request's target: path and query as the upstream gets them, and how nginx reads them.
 * Texts are byte strings (a character for each byte) unless they are called text. Pure.
 *
 * Invariant: what a change does not name keeps its bytes.
 */
import { RestyTsError } from "../sdk/errors.js";
import { type Head, HeadFlag, HeadText } from "./head.js";

/** What ngx_escape_uri escapes in a path (nginx 1.21.1 and later), but for "%". */
const ESCAPED = /[\0-\x20"#<>?\\^`{|}\x7f-\xff]/g;
const ESCAPED_OR_PERCENT = /[\0-\x20"#%<>?\\^`{|}\x7f-\xff]/g;
const ASCII = /^[\0-\x7f]*$/;
/** A sequence of UTF-8 (RFC 3629, 4), or a byte that is part of none. */
const UTF8 =
  /[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xed[\x80-\x9f][\x80-\xbf]|\xf0[\x90-\xbf][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|\xf4[\x80-\x8f][\x80-\xbf]{2}|[\x80-\xff]/g;
const LONE_SURROGATE = /\p{Surrogate}/u;

function escape(char: string): string {
  return `%${char.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`;
}

/** A decoded path as nginx escapes it for the upstream. */
export function escapePath(path: string): string {
  return path.replace(ESCAPED_OR_PERCENT, escape);
}

/** Percent-decodes; what is no escape stays. */
export function decodePath(path: string): string {
  if (!path.includes("%")) return path;
  return path.replace(/%([0-9a-fA-F]{2})/g, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

/** A text as the bytes of its UTF-8. */
export function byteString(text: string): string {
  return ASCII.test(text) ? text : Buffer.from(text, "utf8").toString("latin1");
}

export function utf8(bytes: string): string {
  return ASCII.test(bytes) ? bytes : Buffer.from(bytes, "latin1").toString("utf8");
}

/** The text of a part of a target: a byte that is no UTF-8 is escaped, so that no byte is lost. */
export function textOf(bytes: string): string {
  if (ASCII.test(bytes)) return bytes;
  return bytes.replace(UTF8, (found) => (found.length === 1 ? escape(found) : utf8(found)));
}

/** A byte string whose bytes above 0x7f are escaped. */
export function escapeBytes(bytes: string): string {
  return ASCII.test(bytes) ? bytes : bytes.replace(/[\x80-\xff]/g, escape);
}

/**
 * ngx_http_parse_complex_uri of a decoded path: "//" (with merge_slashes), "." and "..".
 * @returns undefined: it leads above "/".
 */
export function resolvePath(decoded: string, mergesSlashes: boolean): string | undefined {
  if (!decoded.includes("//") && !decoded.includes("/.")) return decoded;
  const out: string[] = [];
  const segments = (mergesSlashes ? decoded.replace(/\/{2,}/g, "/") : decoded).split("/");
  for (const [i, segment] of segments.entries()) {
    if (segment === "." || segment === "..") {
      if (segment === ".." && out.length < 2) return undefined;
      if (segment === "..") out.pop();
      if (i === segments.length - 1) out.push("");
    } else out.push(segment);
  }
  return out.join("/");
}

/** Whether nginx, with merge_slashes on or off, reads this raw path as $uri. */
function readsAs(rawPath: string, uri: string): boolean {
  const decoded = decodePath(rawPath);
  return resolvePath(decoded, true) === uri || resolvePath(decoded, false) === uri;
}

/** Each character in its one spelling, dots resolved; %2F alone stays apart from "/". */
function canonical(rawPath: string, mergesSlashes: boolean): string | undefined {
  const path = mergesSlashes ? rawPath.replace(/\/{2,}/g, "/") : rawPath;
  const segments = path
    .split("/")
    .map((segment) => escapePath(decodePath(segment)).replaceAll("/", "%2F"));
  return resolvePath(segments.join("/"), false);
}

function refuse(text: string): never {
  throw new RestyTsError("bad_response", text);
}

function shown(value: unknown): string {
  const text = String(value);
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

function checkText(text: unknown, what: string): asserts text is string {
  if (typeof text !== "string") refuse(`invalid ${what}: expected a string, not ${typeof text}`);
  if (LONE_SURROGATE.test(text)) refuse(`invalid ${what} ${shown(text)}: it has a lone surrogate`);
}

function checkWire(text: string, what: string): void {
  if (/[\0-\x20\x7f#]/.test(text)) {
    refuse(`invalid ${what} ${shown(text)}: it has a space, control character or "#" (escape it)`);
  }
}

export class Target {
  /** As the upstream gets it. */
  readonly rawPath: string;
  /** null: there is no "?". */
  readonly args: string | null;
  /** $uri: decoded, "." and ".." resolved. */
  readonly path: string;
  /** What the phase began with: spelt again, it has its own bytes. */
  private readonly first: Target;

  constructor(rawPath: string, args: string | null, path: string, first?: Target) {
    this.rawPath = rawPath;
    this.args = args;
    this.path = path;
    this.first = first ?? this;
  }

  /** As the request came, or as Lua has left it. */
  static of(head: Head): Target {
    const uri = head.text(HeadText.uri)!;
    const args = head.text(HeadText.args) ?? null;
    if ((head.flags & HeadFlag.rewritten) !== 0) {
      return new Target(uri, args || null, resolvePath(decodePath(uri), true) ?? uri);
    }
    const target = head.text(HeadText.target)!;
    const end = target.search(/[?#]/);
    const rawPath = end < 0 ? target : target.slice(0, end);
    if (rawPath === "" || !readsAs(rawPath, uri)) {
      return new Target(escapePath(uri), args || null, uri);
    }
    // "?" with nothing behind it is no $args, and goes on as it came.
    const hasEmptyQuery = end >= 0 && /^\?(?:#|$)/.test(target.slice(end, end + 2));
    return new Target(rawPath, args || (hasEmptyQuery ? "" : null), uri);
  }

  /** Path and query as on the wire. */
  get raw(): string {
    return this.args === null ? this.rawPath : `${this.rawPath}?${this.args}`;
  }

  /** What nginx sends when it is given `path` and `args` alone. */
  get escaped(): string {
    const path = escapePath(this.path);
    return this.args ? `${path}?${this.args}` : path;
  }

  /** `raw` as text. */
  get text(): string {
    return textOf(this.raw);
  }

  /** `path` as text; bytes that are no UTF-8 are U+FFFD. */
  get pathText(): string {
    return utf8(this.path);
  }

  /** `args` as text. */
  get argsText(): string | null {
    return this.args === null ? null : textOf(this.args);
  }

  /** The path of a URL that, decoded, is `path`. */
  get pathname(): string {
    for (const mergesSlashes of [false, true]) {
      const found = canonical(this.rawPath, mergesSlashes);
      if (found !== undefined && decodePath(found) === this.path) return found;
    }
    return escapePath(this.path);
  }

  /** The query of a URL, with "?". */
  get search(): string {
    return this.args === null ? "" : `?${this.args.replace(/[\0-\x20"#<>\x7f-\xff]/g, escape)}`;
  }

  /** @param uri text: "/path" or "/path?query". @throws {RestyTsError} "bad_response" */
  withUri(uri: unknown): Target {
    checkText(uri, "URI");
    if (!uri.startsWith("/"))
      refuse(`invalid URI ${shown(uri)}: expected "/path" or "/path?query"`);
    const same = [this, this.first].find(({ text }) => text === uri);
    if (same !== undefined) return this.changed(same.rawPath, same.args, same.path);
    checkWire(uri, "URI");
    const at = uri.indexOf("?");
    const pathText = at < 0 ? uri : uri.slice(0, at);
    const args = at < 0 ? null : escapeBytes(byteString(uri.slice(at + 1)));
    const known = [this, this.first].find(({ rawPath }) => textOf(rawPath) === pathText);
    if (known !== undefined) return this.changed(escapeBytes(known.rawPath), args, known.path);
    if (/%(?![0-9a-fA-F]{2})/.test(pathText)) {
      refuse(`invalid URI ${shown(uri)}: it has a "%" that begins no escape (write %25)`);
    }
    const rawPath = byteString(pathText).replace(ESCAPED, escape);
    const decoded = decodePath(rawPath);
    if (decoded.includes("\0")) refuse(`invalid URI ${shown(uri)}: nginx takes no %00 in a path`);
    const path = resolvePath(decoded, false);
    if (path === undefined) refuse(`invalid URI ${shown(uri)}: it leads above "/"`);
    return this.changed(rawPath, args, path);
  }

  /** @param text a decoded path. @throws {RestyTsError} "bad_response" */
  withPath(text: unknown): Target {
    checkText(text, "path");
    const known = [this, this.first].find(({ pathText }) => pathText === text);
    if (known !== undefined) return this.changed(known.rawPath, this.args, known.path);
    if (!text.startsWith("/")) refuse(`invalid path ${shown(text)}: it does not begin with "/"`);
    if (text.includes("\0")) refuse(`invalid path ${shown(text)}: nginx takes no NUL in a path`);
    if (text.includes("\ufffd") && byteString(this.pathText) !== this.path) {
      refuse("the request's path is not UTF-8: set ctx.request.uri, which has its bytes escaped");
    }
    const bytes = byteString(text);
    const path = resolvePath(bytes, false);
    if (path === undefined) refuse(`invalid path ${shown(text)}: it leads above "/"`);
    return this.changed(escapePath(bytes), this.args, path);
  }

  /** @param args text, with or without "?"; "" is none. @throws {RestyTsError} "bad_response" */
  withQuery(args: unknown): Target {
    checkText(args, "query");
    checkWire(args, "query");
    const given = args.startsWith("?") ? args.slice(1) : args;
    const known = [this, this.first].find(({ argsText }) => argsText === given);
    return this.withArgs(known?.args ?? escapeBytes(byteString(given)));
  }

  /** @param args as on the wire; "" is none. */
  withArgs(args: string): Target {
    if (args === (this.args ?? "")) return this;
    return this.changed(this.rawPath, args === "" ? null : args, this.path);
  }

  private changed(rawPath: string, args: string | null, path: string): Target {
    if (rawPath === this.rawPath && args === this.args) return this;
    return new Target(rawPath, args, path, this.first);
  }
}
