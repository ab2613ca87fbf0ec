/**
 * What is known of a header field by its name: looked up once for each name, as handlers use a few
 * again and again.
 */
import { isToken, refuse, shown } from "./validate.js";

/** RFC 9110, 7.6.1, and their relatives: of one connection, which is nginx's. */
const HOP_BY_HOP = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Whether and how a request's body comes: what else says so lets a part of it be the next request. */
const REQUEST_FRAMING = new Set(["content-length", "expect"]);

/**
 * Fields that nginx has in a place of their own, which takes one line: lua-nginx-module keeps the
 * last of several values that it is given for one.
 */
const SINGLE_IN_REQUESTS: ReadonlySet<string> = new Set([
  ...["accept-encoding", "authorization", "connection", "content-length", "content-type", "cookie"],
  ...["date", "depth", "destination", "expect", "host", "if-match", "if-modified-since"],
  ...["if-none-match", "if-range", "if-unmodified-since", "keep-alive", "overwrite", "range"],
  ...["referer", "transfer-encoding", "upgrade", "user-agent", "via", "x-real-ip"],
]);

const SINGLE_IN_RESPONSES: ReadonlySet<string> = new Set([
  ...["accept-ranges", "content-encoding", "content-length", "content-range", "content-type"],
  ...["date", "etag", "expires", "last-modified", "location", "refresh", "server"],
]);

/** Whose fields of a head. */
export type Side = "request" | "response";

export class FieldName {
  /** In lower case. */
  readonly lower: string;
  readonly isSingleInRequests: boolean;
  readonly isSingleInResponses: boolean;
  /** Whether lua-nginx-module makes another name of a response's, or another number of fields. */
  readonly isOddInResponses: boolean;
  /** Why a plugin may not set or delete it; undefined: it may. */
  private readonly refusal: string | undefined;
  private readonly requestRefusal: string | undefined;

  constructor(name: string) {
    const lower = name.toLowerCase();
    this.lower = lower;
    this.isSingleInRequests = SINGLE_IN_REQUESTS.has(lower);
    this.isSingleInResponses = SINGLE_IN_RESPONSES.has(lower);
    this.isOddInResponses = lower.includes("_") || lower === "www-authenticate";
    this.refusal = isHopByHop(lower)
      ? `${lower} is a hop-by-hop field: it belongs to nginx, which sets it as it needs`
      : undefined;
    this.requestRefusal = REQUEST_FRAMING.has(lower)
      ? `${lower} of a request is set by nginx, as the body is (setBody replaces the body)`
      : this.refusal;
  }

  /** @throws {RestyTsError} "bad_response": it is nginx's. */
  checkChange(side: Side): void {
    const why = side === "request" ? this.requestRefusal : this.refusal;
    if (why !== undefined) refuse(why);
  }
}

const names = new Map<string, FieldName>();
const MOST_NAMES = 256;

/** @throws {RestyTsError} "bad_response": it is no field's name. */
export function fieldName(name: string): FieldName {
  const known = names.get(name);
  if (known !== undefined) return known;
  if (typeof name !== "string") refuse(`a field's name is a string, not a ${typeof name}`);
  if (!isToken(name)) refuse(`${shown(name)} is no field name: it must be a token (RFC 9110)`);
  const made = new FieldName(name);
  // What clients make up must not fill it.
  if (names.size < MOST_NAMES) names.set(name, made);
  return made;
}

/** @param lower a name in lower case. */
export function isHopByHop(lower: string): boolean {
  return HOP_BY_HOP.has(lower);
}

/**
 * Which fields of a message are of the connection that it came by: RFC 9110, 7.6.1.
 *
 * @param connection the value of Connection, which names further ones.
 * @returns takes a name in lower case.
 */
export function hopByHop(connection: string | null): (lower: string) => boolean {
  const named = connection?.toLowerCase().split(/[\s,]+/);
  return (lower) => isHopByHop(lower) || named?.includes(lower) === true;
}
