// Binary data: ts.bytes(s) in Lua is a Uint8Array here, and a Uint8Array comes back as bytes.
import { promisify } from "node:util";
import { gunzip, gzip } from "node:zlib";

const compress = promisify(gzip);
const expand = promisify(gunzip);

export async function pack(body: Uint8Array): Promise<Uint8Array> {
  return compress(body);
}

export async function unpack(body: Uint8Array): Promise<Uint8Array> {
  return expand(body);
}
