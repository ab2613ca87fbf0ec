/**
 * Whether a response's body may become what a filter has made of it: its header is on its way, and
 * says how long the body is, what part of it, and in what coding.
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
import { RestyTsError } from "../sdk/errors.js";
import { fieldsOf } from "./fields.js";
import { type Head } from "./head.js";

const PARTIAL = 206;
/** So much of a body is decoded to see whether it is in its coding. */
const LOOKED_AT_BYTES = 512;

type Decode = (bytes: Uint8Array) => unknown;

const cut: ZlibOptions = { finishFlush: constants.Z_SYNC_FLUSH };

const DECODERS: Readonly<Record<string, readonly Decode[]>> = {
  gzip: [(bytes) => gunzipSync(bytes, cut)],
  deflate: [(bytes) => inflateSync(bytes, cut), (bytes) => inflateRawSync(bytes, cut)],
  br: [(bytes) => brotliDecompressSync(bytes, { finishFlush: constants.BROTLI_OPERATION_FLUSH })],
  zstd: [
    (bytes) => {
      if (Buffer.from(bytes).readUInt32LE() !== 0xfd2fb528) throw new TypeError("no frame of zstd");
    },
  ],
};

/** A change that does not fit the header: whatever the policy, what was meant cannot be sent. */
export class BodyMismatch extends RestyTsError {
  constructor(text: string) {
    super("bad_response", text);
  }
}

/** The coding that a body is in; undefined: it is plain. */
function codingOf(value: string | null): string | undefined {
  const coding = value?.split(",").at(-1)!.trim().toLowerCase().replace(/^x-/, "");
  return coding === "" || coding === "identity" ? undefined : coding;
}

/** Whether a body that begins so may be in the coding. */
function isIn(coding: string, bytes: Uint8Array): boolean {
  const decoders = Object.hasOwn(DECODERS, coding) ? DECODERS[coding]! : [];
  return decoders.some((decode) => {
    try {
      decode(bytes.subarray(0, LOOKED_AT_BYTES));
      return true;
    } catch {
      return false;
    }
  });
}

export class BodyRules {
  private readonly partial: boolean;
  private readonly hasLength: boolean;
  /** Until it was looked at. */
  private coding: string | undefined;

  /** @param begun a piece of the body has passed as it came. */
  constructor(
    head: Head,
    private readonly begun: boolean,
  ) {
    const fields = fieldsOf(head, "response");
    this.partial = head.status === PARTIAL;
    this.hasLength = fields.has("content-length");
    this.coding = codingOf(fields.get("content-encoding"));
  }

  /** @throws {BodyMismatch} unless a piece of the body may become another. */
  check(before: Uint8Array, after: Uint8Array): void {
    if (this.partial && Buffer.compare(before, after) !== 0) {
      throw new BodyMismatch(
        "the body cannot be changed: it is a part, 206, of another (a plugin that is called in " +
          "access_by_lua*, too, has the upstream asked for the whole)",
      );
    }
    if (this.hasLength && before.length !== after.length) {
      throw new BodyMismatch(
        "the body cannot get another length: its header was sent with a Content-Length " +
          "(http.header_filter of the plugin, in header_filter_by_lua*, leaves it out)",
      );
    }
    if (this.coding === undefined || after.length === 0) return;
    if (Buffer.compare(before, after) === 0) return;
    const { coding } = this;
    if (this.begun || !isIn(coding, after)) {
      throw new BodyMismatch(
        `the body cannot be changed: its Content-Encoding is ${coding}, and this is not ` +
          "(headerFilter may delete the field of a body that bodyFilter decodes)",
      );
    }
    this.coding = undefined;
  }
}

/**
 * Whether the header may say another coding where no filter changes the body.
 *
 * @throws {RestyTsError} "bad_response".
 */
export function checkCoding(head: Head, value: string | null): void {
  const coding = codingOf(fieldsOf(head, "response").get("content-encoding"));
  if (coding === undefined || codingOf(value) === coding) return;
  throw new RestyTsError(
    "bad_response",
    `content-encoding cannot be changed: the body is in ${coding}, and no bodyFilter decodes it`,
  );
}
