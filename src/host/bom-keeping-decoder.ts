/**
 * msgpackr makes one `new TextDecoder()` when it is loaded, and decodes long strings by it; that
 * takes a U+FEFF at the beginning of a string for a byte order mark and drops it. So it is loaded
 * while TextDecoder keeps it: import this before msgpackr and restoreTextDecoder after it.
 *
 * Can go when msgpackr passes ignoreBOM.
 */
const Original = globalThis.TextDecoder;

class BomKeepingTextDecoder extends Original {
  constructor(encoding?: string, options?: ConstructorParameters<typeof TextDecoder>[1]) {
    super(encoding, { ...options, ignoreBOM: true });
  }
}

globalThis.TextDecoder = BomKeepingTextDecoder;

export function restoreTextDecoder(): void {
  globalThis.TextDecoder = Original;
}
