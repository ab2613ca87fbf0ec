/**
 * Whether a Content-Encoding says what the bytes of a Response are. fetch decodes a body and leaves
 * the field, so a Response that a plugin makes of a fetched one's body and fields has a wrong one.
 *
 * Thread: the environment's own.
 */
import {
  brotliDecompressSync,
  constants,
  gunzipSync,
  inflateRawSync,
  inflateSync,
  type ZlibOptions,
} from "node:zlib";

/** What every fetch decodes: nothing, when it does not know one of the codings. */
const KNOWN_TO_FETCH = /^\s*(?:(?:x-)?gzip|deflate|br)\s*(?:,\s*(?:(?:x-)?gzip|deflate|br)\s*)*$/i;
/** What a trial decodes at most. */
const TRIAL_BYTES = 65_536;

type Decoder = (bytes: Uint8Array, options: ZlibOptions) => unknown;

const DECODERS = new Map<string, readonly Decoder[]>([
  ["gzip", [gunzipSync]],
  ["x-gzip", [gunzipSync]],
  // Some send it without the frame that RFC 9110, 8.4.1.2 asks for.
  ["deflate", [inflateSync, inflateRawSync]],
]);

/** The bodies of fetched Responses that were looked at. */
const fetchedBodies = new WeakSet<object>();
const known = new WeakSet<object>();

/** @param prototype of the Response that fetch gives: from now on its bodies are known. */
export function knowBodies(prototype: Response): void {
  if (known.has(prototype)) return;
  known.add(prototype);
  const own = Object.getOwnPropertyDescriptor(prototype, "body")!;
  Object.defineProperty(prototype, "body", {
    ...own,
    get(this: Response): ReadableStream | null {
      const body = own.get!.call(this) as ReadableStream | null;
      if (body !== null && this.url !== "") fetchedBodies.add(body);
      return body;
    },
  });
}

/** Whether fetch has decoded the Response's body, as far as it is known whose that is. */
export function isDecoded(response: Response, coding: string): boolean {
  const { url, body } = response;
  const isFetched = url !== "" || (body !== null && fetchedBodies.has(body));
  return isFetched && KNOWN_TO_FETCH.test(coding);
}

function decodes(decode: Decoder, bytes: Uint8Array, end: number): boolean {
  const options = { finishFlush: end, maxOutputLength: TRIAL_BYTES, info: true };
  try {
    const { engine } = decode(bytes, options) as { engine: { bytesWritten: number } };
    return engine.bytesWritten === bytes.length;
  } catch (error) {
    return (error as { code?: unknown }).code === "ERR_BUFFER_TOO_LARGE";
  }
}

/**
 * Whether bytes may be of a Content-Encoding: what cannot be told may.
 *
 * @param bytes all of the body, or the first of it.
 */
export function mayBeEncoded(coding: string, bytes: Uint8Array, isWhole: boolean): boolean {
  const last = coding
    .slice(coding.lastIndexOf(",") + 1)
    .trim()
    .toLowerCase();
  if (last === "br") {
    // Of its beginning anything may be Brotli.
    return !isWhole || decodes(brotliDecompressSync, bytes, constants.BROTLI_OPERATION_FINISH);
  }
  if (last === "zstd") return bytes.length >= 4 && bytes[0] === 0x28 && bytes[1] === 0xb5;
  const end = isWhole ? constants.Z_FINISH : constants.Z_SYNC_FLUSH;
  return DECODERS.get(last)?.some((decode) => decodes(decode, bytes, end)) ?? true;
}
