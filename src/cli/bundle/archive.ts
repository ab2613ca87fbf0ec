/**
 * A .tar.gz in memory, in the ustar format of POSIX.1-1988: the same files give the same bytes. Owner
 * and time say nothing of who made it, and when.
 */
import { gzipSync } from "node:zlib";

/** One file; its path is relative, with slashes. */
export interface Entry {
  readonly path: string;
  readonly content: Uint8Array;
}

const BLOCK = 512;
const MOST_NAME = 100;
const MOST_PREFIX = 155;
/** 1980: tar warns of 1970. */
const MTIME = 315_532_800;

/** A long path goes into two fields, cut at a slash. */
function split(path: string): readonly [prefix: string, name: string] {
  if (Buffer.byteLength(path) <= MOST_NAME) return ["", path];
  for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1)) {
    const parts = [path.slice(0, at), path.slice(at + 1)] as const;
    const [prefix, name] = parts.map((part) => Buffer.byteLength(part));
    if (name! <= MOST_NAME && name! > 0 && prefix! <= MOST_PREFIX) return parts;
  }
  throw new Error(`${path}: its name is too long for an archive`);
}

function header(path: string, size: number): Buffer {
  const block = Buffer.alloc(BLOCK);
  const isFolder = path.endsWith("/");
  const [prefix, name] = split(path);
  const octal = (value: number, length: number, at: number): void => {
    block.write(`${value.toString(8).padStart(length - 1, "0")}\0`, at);
  };
  block.write(name, 0);
  octal(isFolder ? 0o755 : 0o644, 8, 100);
  octal(0, 8, 108); // uid
  octal(0, 8, 116); // gid
  octal(size, 12, 124);
  octal(MTIME, 12, 136);
  block.write(isFolder ? "5" : "0", 156);
  block.write("ustar\0" + "00", 257);
  block.write(prefix, 345);
  // The checksum counts its own field as blanks.
  block.fill(" ", 148, 156);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    7,
    148,
  );
  return block;
}

/** All folders above a file, each with its slash. */
function foldersOf(path: string): string[] {
  const parts = path.split("/");
  return parts.slice(1).map((_, index) => `${parts.slice(0, index + 1).join("/")}/`);
}

/** Sorts the files, and has their folders before them. */
export function archive(entries: readonly Entry[]): Buffer {
  const files = new Map(entries.map(({ path, content }) => [path, content]));
  const folders = [...files.keys()].flatMap(foldersOf);
  const blocks: Uint8Array[] = [];
  for (const path of [...new Set([...folders, ...files.keys()])].sort()) {
    const content = files.get(path) ?? new Uint8Array();
    const padding = new Uint8Array((BLOCK - (content.length % BLOCK)) % BLOCK);
    blocks.push(header(path, content.length), content, padding);
  }
  blocks.push(new Uint8Array(2 * BLOCK));
  return gzipSync(Buffer.concat(blocks), { level: 9 });
}
