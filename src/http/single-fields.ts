/**
 * Fields that nginx has in a place of their own, which takes one line: lua-nginx-module keeps the
 * last of several values that it is given for one. Names in lower case.
 */
export const SINGLE_IN_REQUESTS: ReadonlySet<string> = new Set([
  ...["accept-encoding", "authorization", "connection", "content-length", "content-type", "cookie"],
  ...["date", "depth", "destination", "expect", "host", "if-match", "if-modified-since"],
  ...["if-none-match", "if-range", "if-unmodified-since", "keep-alive", "overwrite", "range"],
  ...["referer", "transfer-encoding", "upgrade", "user-agent", "via", "x-real-ip"],
]);

export const SINGLE_IN_RESPONSES: ReadonlySet<string> = new Set([
  ...["accept-ranges", "content-encoding", "content-length", "content-range", "content-type"],
  ...["date", "etag", "expires", "last-modified", "location", "refresh", "server"],
]);
