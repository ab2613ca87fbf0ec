/** The golden vectors, and values as TypeScript has them. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PROJECT_ROOT } from "../support/project.ts";

export type Described =
  | ["null"]
  | ["boolean", boolean]
  | ["number" | "int64" | "uint64" | "string" | "bytes", string]
  | ["array", Described[]]
  | ["map", Record<string, Described>];

export interface RecordVector {
  name: string;
  from: "lua" | "host";
  kind: number;
  flags: number;
  pending: number;
  id: number;
  a: number;
  b: number;
  total: number;
  payload: string;
  hex: string;
}

export interface MessageVector {
  name: string;
  from: "lua" | "host";
  ring_bytes: number;
  kind: number;
  id: number;
  a: number;
  b: number;
  payload: string;
  hex: string;
}

export interface BadRecordVector {
  name: string;
  ring_bytes: number;
  published: number;
  hex: string;
}

interface Vectors {
  records: RecordVector[];
  messages: MessageVector[];
  badRecords: BadRecordVector[];
  values: { name: string; value: Described; lua: string; js?: string }[];
  decodeOnly: { name: string; value: Described; hex: string }[];
  malformed: { name: string; hex: string }[];
}

export const vectors = JSON.parse(
  readFileSync(join(PROJECT_ROOT, "test/conformance/vectors.json"), "utf8"),
) as Vectors;

export const unhex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "hex"));
export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The value that a vector describes. */
export function make(described: Described): unknown {
  switch (described[0]) {
    case "null":
      return null;
    case "boolean":
    case "string":
      return described[1];
    case "number":
      return Number(described[1]);
    case "int64":
    case "uint64":
      return BigInt(described[1]);
    case "bytes":
      return unhex(described[1]);
    case "array":
      return described[1].map(make);
    case "map":
      return Object.fromEntries(
        Object.entries(described[1]).map(([key, value]) => [key, make(value)]),
      );
  }
}
