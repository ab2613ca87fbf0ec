/** What a shared library or a program says of itself, read from its ELF headers: no tool is needed. */

export interface Elf {
  /** As `process.arch` has it, or the number. */
  readonly arch: string;
  /** The dynamic loader, of programs. */
  readonly interpreter: string | undefined;
  readonly soname: string | undefined;
  readonly needed: readonly string[];
}

const MACHINES: Readonly<Record<number, string>> = {
  3: "ia32",
  40: "arm",
  62: "x64",
  183: "arm64",
};
const Segment = { load: 1, dynamic: 2, interpreter: 3 } as const;
const Tag = { needed: 1n, strings: 5n, soname: 14n } as const;
const HEADER_BYTES = 64;
const SEGMENT_BYTES = 56;
const ENTRY_BYTES = 16;

/** A text that ends in a NUL. */
function textAt(bytes: Buffer, at: number): string {
  return bytes.toString("latin1", at, bytes.indexOf(0, at));
}

/** @returns undefined when it is no 64-bit little-endian ELF file, or a broken one. */
export function readElf(bytes: Buffer): Elf | undefined {
  if (bytes.length < HEADER_BYTES || bytes.toString("latin1", 0, 6) !== "\x7fELF\x02\x01") {
    return undefined;
  }
  try {
    return read(bytes);
  } catch (error) {
    // An offset that leads out of the file.
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}

function read(bytes: Buffer): Elf {
  const machine = bytes.readUInt16LE(18);
  const start = Number(bytes.readBigUInt64LE(32));
  const segments = Array.from({ length: bytes.readUInt16LE(56) }, (_, i) => {
    const at = start + i * SEGMENT_BYTES;
    const long = (offset: number): number => Number(bytes.readBigUInt64LE(at + offset));
    return { type: bytes.readUInt32LE(at), offset: long(8), address: long(16), size: long(32) };
  });
  const interpreter = segments.find(({ type }) => type === Segment.interpreter);
  const dynamic = segments.find(({ type }) => type === Segment.dynamic);
  const offsetOf = (address: number): number => {
    const of = segments.find(
      (each) =>
        each.type === Segment.load && address >= each.address && address < each.address + each.size,
    );
    return of === undefined ? address : address - of.address + of.offset;
  };

  const entries: [tag: bigint, value: number][] = [];
  for (let i = 0; dynamic !== undefined && i < dynamic.size / ENTRY_BYTES; i++) {
    const at = dynamic.offset + i * ENTRY_BYTES;
    entries.push([bytes.readBigUInt64LE(at), Number(bytes.readBigUInt64LE(at + 8))]);
  }
  const strings = offsetOf(entries.find(([tag]) => tag === Tag.strings)?.[1] ?? 0);
  const named = (wanted: bigint): string[] =>
    entries.filter(([tag]) => tag === wanted).map(([, value]) => textAt(bytes, strings + value));
  return {
    arch: MACHINES[machine] ?? String(machine),
    interpreter: interpreter === undefined ? undefined : textAt(bytes, interpreter.offset),
    soname: named(Tag.soname)[0],
    needed: named(Tag.needed),
  };
}

/** Which C library it is made for; undefined: it needs none. */
export function libcOf({ interpreter = "", needed }: Elf): "glibc" | "musl" | undefined {
  const names = [interpreter, ...needed];
  if (names.some((name) => /(^|\/)(ld-musl-|libc\.musl-)/.test(name))) return "musl";
  return names.some((name) => /(^|\/)(ld-linux|libc\.so\.6)/.test(name)) ? "glibc" : undefined;
}
