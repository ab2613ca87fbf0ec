/** Asks the servers that a test plays, and reads what they answer. */
import type { FlatFields } from "../http/head.js";
import { flatten, filterFields, setField, valueOf } from "./fields.js";
import { FlatFieldsReader } from "../http/read-fields.js";
import type { Piece, Upstream, UpstreamRequest, UpstreamResponse } from "./types.js";

/** What ngx_http_proxy_module keeps to itself of an upstream's response. */
const HIDDEN = new Set([
  "connection",
  "date",
  "keep-alive",
  "server",
  "transfer-encoding",
  "x-pad",
]);

export interface Answer {
  readonly status: number;
  readonly fields: FlatFields;
  readonly pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

export function makeUpstreamRequest(
  method: string,
  uri: string,
  fields: FlatFields,
  body: Uint8Array,
): UpstreamRequest {
  const text = (): string => new TextDecoder().decode(body);
  return {
    method,
    uri,
    headers: new FlatFieldsReader(fields),
    body,
    text,
    json: <T>() => JSON.parse(text()) as T,
  };
}

function bytesOf(piece: Piece): Uint8Array {
  return typeof piece === "string" ? new TextEncoder().encode(piece) : piece.slice();
}

async function* encoded(
  pieces: Iterable<Piece> | AsyncIterable<Piece>,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const piece of pieces) yield bytesOf(piece);
}

function ofResponse(response: Response): Answer {
  return {
    status: response.status,
    fields: flatten([...response.headers]),
    pieces: encoded((response.body ?? []) as AsyncIterable<Piece>),
  };
}

function ofObject({ status = 200, headers, body = "" }: UpstreamResponse): Answer {
  const fields = flatten(headers);
  if (typeof body !== "string" && !(body instanceof Uint8Array)) {
    return { status, fields, pieces: encoded(body) };
  }
  const bytes = bytesOf(body);
  if (valueOf(fields, "content-length") === undefined && status >= 200 && status !== 204) {
    setField(fields, "Content-Length", [String(bytes.length)]);
  }
  return { status, fields, pieces: [bytes] };
}

/** What a handler returned, as it goes over the wire. */
export function answerOf(given: Response | UpstreamResponse): Answer {
  return given instanceof Response ? ofResponse(given) : ofObject(given);
}

/** The answer as nginx passes it on. */
export async function askUpstream(
  upstream: Upstream | undefined,
  request: UpstreamRequest,
): Promise<Answer> {
  const answer = answerOf((await upstream?.(request)) ?? {});
  const fields = filterFields(
    answer.fields,
    (lower) => !HIDDEN.has(lower) && !lower.startsWith("x-accel-"),
  );
  return { ...answer, fields };
}

export async function collect(pieces: Answer["pieces"]): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const piece of pieces) parts.push(piece);
  return new Uint8Array(Buffer.concat(parts));
}
