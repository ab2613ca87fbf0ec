/**
 * Bodies as forms: application/x-www-form-urlencoded, and multipart/form-data (RFC 7578) as browsers,
 * curl and .NET send it.
 *
 * Thread: the environment's own. Invariant: nothing is guessed or left out. What two readers may read
 * in two ways is malformed, since the upstream reads the form, too.
 */
import { Dicer } from "@fastify/busboy";
import { RestyTsError } from "../sdk/errors.js";
import { malformed } from "./client-error.js";
import { decodePath } from "./target.js";

const MOST_PARTS = 10_000;

/** A ";name=value" of a field; a value in quotes, or one without. */
const PARAMETER =
  /\s*;\s*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)\s*=\s*(?:"((?:[^"\\]|\\[^])*)"|([^";]*)))?\s*/y;
/** What browsers escape in names: https://html.spec.whatwg.org/#multipart-form-data */
const BROWSER_ESCAPES: Readonly<Record<string, string>> = { "%22": '"', "%0D": "\r", "%0A": "\n" };

interface Field {
  /** In lower case. */
  readonly value: string;
  readonly parameters: ReadonlyMap<string, string>;
}

interface Part {
  fields: Readonly<Record<string, string[]>>;
  readonly data: Uint8Array[];
}

function decode(bytes: Uint8Array, charset = "utf-8"): string {
  return new TextDecoder(charset, { fatal: true, ignoreBOM: true }).decode(bytes);
}

function bytesOf(text: string): Uint8Array {
  return Buffer.from(text, "latin1");
}

/** A parameter's value in quotes: browsers escape by "%22", others by a backslash, .NET by RFC 2047. */
function unquote(quoted: string): string {
  const text = quoted
    .replace(/\\(["\\])/g, "$1")
    .replace(/%(?:22|0D|0A)/gi, (escape) => BROWSER_ESCAPES[escape.toUpperCase()]!);
  const [, charset, base64] = /^=\?([^?]+)\?b\?([\d+/=a-z]*)\?=$/i.exec(text) ?? [];
  return base64 === undefined
    ? decode(bytesOf(text))
    : decode(Buffer.from(base64, "base64"), charset);
}

/** RFC 8187: charset'language'value. */
function decodeExtended(value: string): string {
  const [, charset, text] = /^([^']+)'[^']*'(.*)$/.exec(value) ?? [];
  if (text === undefined) throw new Error(`${JSON.stringify(value)} is not charset'language'value`);
  return decode(bytesOf(decodePath(text)), charset);
}

/** @param text as bytes. @throws {Error} */
function parseField(text: string): Field {
  const end = text.includes(";") ? text.indexOf(";") : text.length;
  const parameters = new Map<string, string>();
  for (PARAMETER.lastIndex = end; PARAMETER.lastIndex < text.length;) {
    const [all, name, quoted, bare] = PARAMETER.exec(text) ?? [];
    if (all === undefined) throw new Error(`${JSON.stringify(text)} has a malformed parameter`);
    if (name === undefined) continue;
    const lower = name.toLowerCase();
    if (parameters.has(lower)) throw new Error(`${lower} is there twice`);
    const value = lower.endsWith("*")
      ? decodeExtended(quoted ?? bare!.trim())
      : quoted === undefined
        ? decode(bytesOf(bare!.trim()))
        : unquote(quoted);
    parameters.set(lower, value);
  }
  return { value: text.slice(0, end).trim().toLowerCase(), parameters };
}

function split(body: Uint8Array, boundary: string): Promise<Part[]> {
  return new Promise((resolve, reject) => {
    const parts: Part[] = [];
    // It drops in silence what is above its limits; the body's size is one already.
    const most = body.length + 1;
    const config = { boundary, maxHeaderSize: most, maxHeaderPairs: most };
    const dicer = new Dicer(config);
    dicer.on("part", (stream) => {
      const part: Part = { fields: {}, data: [] };
      if (parts.push(part) > MOST_PARTS) {
        reject(new RestyTsError("too_large", `the form has more than ${MOST_PARTS} parts`));
      }
      stream.on("header", (fields) => (part.fields = fields as Part["fields"]));
      stream.on("data", (piece) => part.data.push(piece as Uint8Array));
      stream.on("error", reject);
    });
    dicer.on("error", reject);
    dicer.on("finish", () => {
      resolve(parts);
    });
    dicer.end(body);
  });
}

/** The field's value; undefined when there is none. @throws {Error} when there are several. */
function only({ fields }: Part, name: string): string | undefined {
  const values = fields[name];
  if (values !== undefined && values.length > 1) throw new Error(`a part has several ${name}`);
  return values?.[0];
}

function addPart(form: FormData, part: Part): void {
  const disposition = parseField(only(part, "content-disposition") ?? "");
  const get = (name: string): string | undefined =>
    disposition.parameters.get(`${name}*`) ?? disposition.parameters.get(name);
  const name = get("name");
  if (disposition.value !== "form-data" || name === undefined) {
    throw new Error("a part has no Content-Disposition: form-data with a name");
  }
  const coding = only(part, "content-transfer-encoding")?.trim() ?? "";
  if (!/^(|7bit|8bit|binary)$/i.test(coding)) {
    const text = `a part of the form has the Content-Transfer-Encoding ${JSON.stringify(coding)}`;
    throw new RestyTsError("unsupported_media_type", text);
  }
  const type = only(part, "content-type")?.trim() ?? "text/plain";
  const filename = get("filename");
  if (filename !== undefined) form.append(name, new Blob(part.data, { type }), filename);
  else
    form.append(name, decode(Buffer.concat(part.data), parseField(type).parameters.get("charset")));
}

async function readMultipart(body: Uint8Array, type: string): Promise<FormData> {
  const boundary = parseField(type).parameters.get("boundary") ?? "";
  if (boundary === "") throw new Error("its Content-Type has no boundary");
  const form = new FormData();
  for (const part of await split(body, boundary)) addPart(form, part);
  return form;
}

function readUrlencoded(body: Uint8Array): FormData {
  const form = new FormData();
  const text = (encoded: string): string =>
    decode(bytesOf(decodePath(encoded.replaceAll("+", " "))));
  for (const pair of Buffer.from(body).toString("latin1").split("&")) {
    if (pair === "") continue;
    const at = pair.includes("=") ? pair.indexOf("=") : pair.length;
    form.append(text(pair.slice(0, at)), text(pair.slice(at + 1)));
  }
  return form;
}

/** @returns whether readForm knows the Content-Type. */
export function isForm(type: string): boolean {
  return /^\s*(multipart\/form-data|application\/x-www-form-urlencoded)\s*(;|$)/i.test(type);
}

/**
 * @param type the Content-Type, one that isForm knows.
 * @throws {RestyTsError} "bad_request", "too_large", "unsupported_media_type"
 */
export async function readForm(body: Uint8Array, type: string): Promise<FormData> {
  try {
    return /^\s*multipart/i.test(type) ? await readMultipart(body, type) : readUrlencoded(body);
  } catch (error) {
    throw error instanceof RestyTsError ? error : malformed("the request's form", error);
  }
}
