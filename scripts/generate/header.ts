// Reads the two C headers that everything else is generated from.

/** One row of RTS_ERROR_MAP. */
export interface ErrorRow {
  /** TIMEOUT */
  readonly name: string;
  readonly number: number;
  /** timeout */
  readonly code: string;
  readonly text: string;
  readonly cure: string;
}

function withoutComments(source: string): string {
  return source.replace(/\/\*[\s\S]*?\*\//g, "").replace(/\/\/.*$/gm, "");
}

/** C string literals side by side, as one string. Only the escapes that an error text could want. */
function joinLiterals(source: string): string {
  const literals = [...source.matchAll(/"((?:[^"\\]|\\.)*)"/g)].map((match) => match[1] ?? "");
  return literals.join("").replace(/\\(["\\])/g, "$1");
}

const STRING = String.raw`((?:"(?:[^"\\]|\\.)*"\s*)+)`;
const ROW = new RegExp(
  String.raw`\bX\(\s*([A-Z][A-Z0-9_]*)\s*,\s*(\d+)\s*,\s*${STRING},\s*${STRING},\s*${STRING}\)`,
  "g",
);

/** The rows of RTS_ERROR_MAP, checked: no name, number or code twice, none misread. */
export function readErrors(header: string): ErrorRow[] {
  const joined = header.replace(/\\\r?\n/g, " ");
  const map = /#define RTS_ERROR_MAP\(X\)(.*)$/m.exec(joined)?.[1];
  if (map === undefined) throw new Error("rts_errors.h: no RTS_ERROR_MAP(X)");

  const rows = [...map.matchAll(ROW)].map(
    ([, name = "", number = "", code = "", text = "", cure = ""]): ErrorRow => ({
      name,
      number: Number(number),
      code: joinLiterals(code),
      text: joinLiterals(text),
      cure: joinLiterals(cure),
    }),
  );
  const started = map.replace(/"(?:[^"\\]|\\.)*"/g, "").match(/\bX\(/g)?.length ?? 0;
  if (rows.length !== started) {
    throw new Error(`rts_errors.h: ${started} rows begin, ${rows.length} could be read`);
  }
  for (const key of ["name", "number", "code"] as const) {
    if (new Set(rows.map((row) => row[key])).size !== rows.length) {
      throw new Error(`rts_errors.h: a ${key} stands twice`);
    }
  }
  const odd = rows.find((row) => row.code !== row.name.toLowerCase());
  if (odd !== undefined) throw new Error(`rts_errors.h: ${odd.name} has the code "${odd.code}"`);
  return rows;
}

/** The declarations between the ffi marks, comments and blank lines left out. */
export function readDeclarations(header: string): string {
  const part = /^\/\* ffi:begin \*\/$([\s\S]*)^\/\* ffi:end \*\/$/m.exec(header)?.[1];
  if (part === undefined) throw new Error("resty_ts.h: no ffi:begin and ffi:end");
  const lines = withoutComments(part).split("\n");
  const kept = lines.map((line) => line.trimEnd()).filter((line) => line !== "");
  const directive = kept.find((line) => line.startsWith("#"));
  if (directive !== undefined) {
    throw new Error(`resty_ts.h: ffi.cdef has no preprocessor: ${directive}`);
  }
  return kept.join("\n");
}

/** The value of `#define RTS_VERSION "..."`. */
export function readVersion(header: string): string | undefined {
  return /^#define RTS_VERSION "([^"]*)"/m.exec(header)?.[1];
}
