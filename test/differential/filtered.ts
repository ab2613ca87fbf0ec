/** What a chain with a filter of bodies changes by itself (docs/plugins.md, "Whole and plain bodies"). */
import { type Message, valuesOf, without } from "./raw.ts";

/** The request as the upstream gets it: for all of the body, in no coding. */
export function askedWhole(request: Message): Message {
  const ranges = valuesOf(request, "range").length > 0 ? ["range", "if-range"] : [];
  return without(request, "accept-encoding", ...ranges);
}

/** The length of a body that is filtered is not known before. */
export const withoutLength = (response: Message): Message =>
  without(response, "content-length", "transfer-encoding", "connection");

/** The response's fields as they fit a body that may be another, but for its length. */
export function filtered(response: Message): Message {
  const plain = withoutLength(response);
  const isOurs = valuesOf(response, "x-state").length > 0;
  if (!isOurs || response.line.startsWith("HTTP/1.1 206")) return plain;
  const { line, body, fields } = without(plain, "accept-ranges");
  const [etag, ...others] = valuesOf(plain, "etag");
  const isChanged = etag !== undefined && others.length === 0 && !etag.startsWith("W/");
  return {
    line,
    body,
    fields: fields.flatMap(([name, value]): [string, string][] => {
      if (name.toLowerCase() !== "etag" || !isChanged) return [[name, value]];
      // What is no entity-tag cannot be made a weak one.
      return value.startsWith('"') ? [[name, `W/${value}`]] : [];
    }),
  };
}
