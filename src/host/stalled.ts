/**
 * Where the environment before this one was when it was ended for not coming back to its loop: C
 * notes V8's frames (native/runtime/embedded.cc), and this makes of them what a developer reads.
 *
 * Thread: the environment's own.
 */
import { SourceMap } from "node:module";
import { messageOf } from "./describe.js";

interface Frame {
  readonly function?: string;
  readonly script?: string;
  /** The script's source map, as a data: URL. */
  readonly map?: string;
  readonly line: number;
  readonly column: number;
}

/** `file:line:column`, of the source where there is a map. */
function placeOf(frame: Frame): string {
  const plain = `${frame.script ?? "unknown"}:${frame.line}:${frame.column}`;
  const base64 = /^data:application\/json[^,]*;base64,(.*)$/s.exec(frame.map ?? "")?.[1];
  if (base64 === undefined) return plain;
  const map = JSON.parse(Buffer.from(base64, "base64").toString()) as ConstructorParameters<
    typeof SourceMap
  >[0];
  const entry = new SourceMap(map).findEntry(frame.line - 1, frame.column - 1);
  if (!("originalSource" in entry)) return plain;
  const { originalSource, originalLine, originalColumn } = entry;
  return `${originalSource}:${originalLine + 1}:${originalColumn + 1}`;
}

/** @param json of rts_runtime_stack. @returns lines as of an Error's stack. */
export function describeStall(json: string): string {
  try {
    return (JSON.parse(json) as Frame[])
      .map((frame) => `    at ${frame.function ?? "<anonymous>"} (${placeOf(frame)})`)
      .join("\n");
  } catch (error) {
    return `(its stack cannot be read: ${messageOf(error)})`;
  }
}
